/*
 * Lets a program that is linked for FreeBSD 14 also run on FreeBSD 12.2 and 13.
 *
 * Its entry calls this function, which the C library of FreeBSD 14 has, but no older one. ld-elf.so.1 has called all
 * constructors by then, and `cleanup` runs its destructors.
 */
int atexit(void (*)(void));
_Noreturn void exit(int);

extern char **environ;

/* The oldest release that the program is for. The kernel imitates yet older ones for a program that does not say this. */
static const struct {
	int name_size, size, type;
	char name[8];
	int release;
} abi_tag __attribute__((section(".note.tag"), aligned(4), used)) = {8, 4, 1 /* NT_FREEBSD_ABI_TAG */, "FreeBSD", 1202000};

_Noreturn void __libc_start1(int count, char **arguments, char **environment, void (*cleanup)(void),
	int (*main)(int, char **, char **))
{
	environ = environment;
	if (cleanup)
		atexit(cleanup);
	exit(main(count, arguments, environment));
}
