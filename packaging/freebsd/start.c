/*
 * Lets a program that is linked for FreeBSD 14 also run on FreeBSD 12.2 and 13.
 *
 * Its entry calls this function, which the C library of FreeBSD 14 has, but no older one. ld-elf.so.1 has called all
 * constructors by then, and `cleanup` runs its destructors.
 */
int atexit(void (*)(void));
_Noreturn void exit(int);

extern char **environ;

_Noreturn void __libc_start1(int count, char **arguments, char **environment, void (*cleanup)(void),
	int (*main)(int, char **, char **))
{
	/* A constructor may have set it by setenv(3). */
	if (!environ)
		environ = environment;
	if (cleanup)
		atexit(cleanup);
	exit(main(count, arguments, environ));
}
