/*
 * Preloaded, this library lets Xen 4.17's xenstored and oxenstored run unmodified on a machine without Xen.
 *
 * The servers need three things from a hypervisor: the page that they share with each guest, an event channel to each
 * guest, and whether a domain exists. Here these are files in the directory $XENSTORED_SHIM_DIR:
 *
 *   <domid>.page    page with the two rings, created by the guest. The domain exists while this file exists.
 *   <domid>.events  FIFO from server to guest, recreated at each introduction: struct to_guest.
 *   events          FIFO from all guests to the server: struct to_daemon.
 *   xsd_port        event channel of dom0, "3". A Xen kernel has it in /proc/xen.
 *   xsd_kva         page of dom0. A Xen kernel has it in /proc/xen.
 *
 * Events carry the indices of the rings, so only the server's process accesses the indices in the page. A guest that
 * reads and writes the page as a file therefore never leaves a half-written index.
 *
 * The few Xen types are declared here, so that Xen's headers are not needed. The servers treat handles as opaque, so
 * any pointer except NULL will do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define DOMAINS 4096

/* Local ports: one reports that some domain has changed. The others are FIRST_PORT plus a domain ID. */
#define DOMAIN_EXCEPTION 1
#define FIRST_PORT 2

/* public/io/xs_wire.h: two rings of 1024 bytes, then their producer and consumer indices. */
struct rings {
    char bytes[2048];
    volatile uint32_t request_consumed, request_produced, response_consumed, response_produced;
};

struct to_daemon { uint32_t domid, port, request_produced, response_consumed; };
struct to_guest { uint32_t request_consumed, response_produced; };

static struct domain {
    struct rings *rings;
    uint32_t port; /* the guest's end, 0 for none; distinguishes events of different introductions */
    int events;    /* FIFO to the guest, -1 for none */
} domains[DOMAINS];

static int events = -1;
static int handle;

static void die(const char *what)
{
    fprintf(stderr, "xenstored-shim: %s: %s\n", what, strerror(errno));
    abort();
}

/* One buffer is enough, because the servers are single-threaded. */
static const char *file(const char *format, ...)
{
    static char path[PATH_MAX];
    const char *directory = getenv("XENSTORED_SHIM_DIR");
    if (!directory)
        die("XENSTORED_SHIM_DIR is not set");
    int length = snprintf(path, sizeof path, "%s/", directory);
    va_list names;
    va_start(names, format);
    vsnprintf(path + length, sizeof path - length, format, names);
    va_end(names);
    return path;
}

/* Both ends are opened, so that nothing is lost before the guest opens the FIFO. */
static int fifo(const char *path)
{
    unlink(path);
    int fd = mkfifo(path, 0600) ? -1 : openat(AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

/* ---- libc: xenstored has fixed paths for dom0's page and port; oxenstored requires a limit of a million files ---- */

int open(const char *path, int flags, ...)
{
    static const char proc[] = "/proc/xen/";
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (strncmp(path, proc, strlen(proc)) == 0)
        path = file("%s", path + strlen(proc));
    return openat(AT_FDCWD, path, flags, mode);
}

/* Falls back to the maximum if the requested limit is not allowed. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *wanted)
{
    struct rlimit limit;
    if (prlimit(0, resource, wanted, NULL) == 0)
        return 0;
    if (resource != RLIMIT_NOFILE || prlimit(0, resource, NULL, &limit))
        return -1;
    limit.rlim_cur = limit.rlim_max;
    return prlimit(0, resource, &limit, NULL);
}

/* ---- libxenevtchn ---- */

void *xenevtchn_open(void *logger, unsigned flags)
{
    /* Each guest needs a descriptor, so a thousand guests exceed the usual limit. */
    struct rlimit many = { RLIM_INFINITY, RLIM_INFINITY };
    setrlimit(RLIMIT_NOFILE, &many);
    events = fifo(file("events"));
    return &handle;
}

/* Only a live update of the server calls this, which no test does. */
void *xenevtchn_fdopen(void *logger, int fd, unsigned flags) { errno = ENOSYS; return NULL; }
int xenevtchn_close(void *xce) { return 0; }
int xenevtchn_fd(void *xce) { return events; }
int xenevtchn_bind_virq(void *xce, unsigned virq) { return DOMAIN_EXCEPTION; }
int xenevtchn_unmask(void *xce, uint32_t port) { return 0; }

int xenevtchn_bind_interdomain(void *xce, uint32_t domid, uint32_t remote_port)
{
    if (domid >= DOMAINS) {
        errno = ENOSPC;
        return -1;
    }
    domains[domid].port = remote_port;
    /* dom0 uses the socket here, so nobody would read events on its ring. */
    domains[domid].events = domid == 0 ? -1 : fifo(file("%u.events", domid));
    return FIRST_PORT + domid;
}

int xenevtchn_unbind(void *xce, uint32_t port)
{
    if (port > FIRST_PORT && domains[port - FIRST_PORT].port != 0) {
        domains[port - FIRST_PORT].port = 0;
        close(domains[port - FIRST_PORT].events);
    }
    return 0;
}

int xenevtchn_notify(void *xce, uint32_t port)
{
    if (port <= FIRST_PORT || domains[port - FIRST_PORT].port == 0)
        return 0;
    const struct domain *domain = &domains[port - FIRST_PORT];
    struct to_guest event = { domain->rings->request_consumed, domain->rings->response_produced };
    /* A FIFO never fills up, because each event stands for at least one byte of a ring. If an event were lost, the guest
     * would hang. */
    if (write(domain->events, &event, sizeof event) != sizeof event)
        die("event to a guest");
    return 0;
}

int xenevtchn_pending(void *xce)
{
    struct to_daemon event;
    while (read(events, &event, sizeof event) == sizeof event) {
        /* The event is from a guest that has ended or was introduced again. */
        if (event.domid >= DOMAINS || event.port == 0 || domains[event.domid].port != event.port)
            continue;
        domains[event.domid].rings->response_consumed = event.response_consumed;
        domains[event.domid].rings->request_produced = event.request_produced;
        return FIRST_PORT + event.domid;
    }
    return DOMAIN_EXCEPTION;
}

/* ---- Pages of guests: xenstored maps them by libxengnttab, oxenstored by libxenctrl ---- */

static void *map(uint32_t domid)
{
    int fd = domid < DOMAINS ? openat(AT_FDCWD, file("%u.page", domid), O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        return NULL;
    memset(page, 0, PAGE); /* initial state after domain building */
    return domains[domid].rings = page;
}

void *xengnttab_open(void *logger, unsigned flags) { return &handle; }
int xengnttab_close(void *xgt) { return 0; }
int xengnttab_set_max_grants(void *xgt, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *xgt, uint32_t domid, uint32_t reference, int prot) { return map(domid); }
int xengnttab_unmap(void *xgt, void *pages, uint32_t count) { return munmap(pages, (size_t)count * PAGE); }
void *xc_map_foreign_range(void *xch, uint32_t domid, int size, int prot, unsigned long frame) { return map(domid); }

/* ---- libxenctrl: which domains there are. The servers read only these of the 112 bytes on x86-64 ---- */

#define RUNNING (1u << 5)
struct info { uint32_t domid, security_label, flags; char rest[100]; };  /* xc_dominfo_t */
struct listed { uint16_t domid, padding; uint32_t flags; char rest[104]; }; /* xc_domaininfo_t */

static int exists(uint32_t domid)
{
    return domid == 0 || faccessat(AT_FDCWD, file("%u.page", domid), F_OK, 0) == 0;
}

int xc_domain_getinfo(void *xch, uint32_t domid, unsigned max, struct info *info)
{
    *info = (struct info){ .domid = domid, .flags = RUNNING };
    return exists(domid);
}

int xc_domain_getinfolist(void *xch, uint32_t domid, unsigned max, struct listed *info)
{
    *info = (struct listed){ .domid = domid, .flags = RUNNING };
    return exists(domid);
}

void *xc_interface_open(void *logger, void *open_logger, unsigned flags) { return &handle; }
int xc_interface_close(void *xch) { return 0; }

/* oxenstored calls this before it raises an exception. The real function would dereference our handle. */
const void *xc_get_last_error(void *xch)
{
    static const struct { int code; char message[1024]; } no_such_domain = { 1, "no such domain" };
    return &no_such_domain;
}
