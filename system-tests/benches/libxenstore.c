/*
 * The workloads of the benchmark `library`, implemented with libxenstore.
 *
 * Usage: libxenstore WORKLOAD COUNT, with the server's socket in XENSTORED_PATH. For each repetition the program waits
 * for a line on standard input, and then prints the duration in nanoseconds.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenstore.h>

#define OPERATIONS 100

static const char value[] = "a value like others";

static void check(bool done, const char *what)
{
	if (!done) {
		perror(what);
		exit(1);
	}
}

static void reads(struct xs_handle *xs)
{
	for (int i = 0; i < OPERATIONS; i++) {
		unsigned int length;
		char *read = xs_read(xs, XBT_NULL, "/bench/theirs/0", &length);

		check(read && length == strlen(value), "xs_read");
		free(read);
	}
}

static void writes(struct xs_handle *xs, xs_transaction_t transaction)
{
	for (int i = 0; i < OPERATIONS; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/bench/theirs/%d", i);
		check(xs_write(xs, transaction, path, value, strlen(value)), "xs_write");
	}
}

static void transaction(struct xs_handle *xs)
{
	xs_transaction_t transaction = xs_transaction_start(xs);

	check(transaction != XBT_NULL, "xs_transaction_start");
	writes(xs, transaction);
	check(xs_transaction_end(xs, transaction, false), "xs_transaction_end");
}

int main(int argc, char **argv)
{
	struct xs_handle *xs = xs_open(0);
	int count = argc == 3 ? atoi(argv[2]) : 0;
	char line[8];

	check(xs, "xs_open");
	check(count > 0, "usage: libxenstore read|write|transaction COUNT");
	writes(xs, XBT_NULL);
	while (count-- > 0 && fgets(line, sizeof(line), stdin)) {
		struct timespec begin, end;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		if (!strcmp(argv[1], "read"))
			reads(xs);
		else if (!strcmp(argv[1], "write"))
			writes(xs, XBT_NULL);
		else
			transaction(xs);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec));
		fflush(stdout);
	}
	xs_close(xs);
	return 0;
}
