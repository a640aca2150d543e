/* Preloaded into a line and all that it starts: number what changes files below some folders, across
 * all processes, and let one of it fail, or all from one on.
 *
 * FAULTS_BELOW   folders, separated by colons
 * FAULTS_COUNT   a file of 16 bytes: how much was numbered, and how much of that failed
 * FAULTS_FROM    number of the first that fails; FAULTS_UNTIL of the first that no longer does
 * FAULTS_ERRNO   what it fails with
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static unsigned long *counts(void) {
    static unsigned long *mapped;
    const char *file = getenv("FAULTS_COUNT");
    if (mapped || !file) return mapped;
    int fd = NEXT(open)(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NULL;
    void *memory = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : (mapped = memory);
}

static unsigned long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoul(text, NULL, 10) : ULONG_MAX;
}

/* Whether what is done to this path fails; errno is then set. */
static int path_fails(const char *path) {
    const char *below = getenv("FAULTS_BELOW");
    int is_below = 0;
    for (; path && below && *below && !is_below; below += strspn(below, ":")) {
        size_t length = strcspn(below, ":");
        is_below = !strncmp(path, below, length) && (path[length] == '/' || !path[length]);
        below += length;
    }
    unsigned long *count = is_below ? counts() : NULL;
    if (!count) return 0;
    unsigned long own = __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    if (own < number("FAULTS_FROM") || own >= number("FAULTS_UNTIL")) return 0;
    __atomic_fetch_add(count + 1, 1, __ATOMIC_RELAXED);
    errno = (int)number("FAULTS_ERRNO");
    return 1;
}

static int file_fails(int fd) {
    char name[40], path[PATH_MAX];
    int before = errno;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return path_fails(path);
}

static int below_fails(int folder, const char *path) {
    return folder == AT_FDCWD || (path && *path == '/') ? path_fails(path) : file_fails(folder);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
#define CHANGES (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        MODE(flags) \
        return (flags & CHANGES) && path_fails(path) ? -1 : NEXT(name)(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        MODE(flags) \
        return (flags & CHANGES) && below_fails(folder, path) ? -1 : NEXT(name)(folder, path, flags, mode); \
    }
#define CALL(type, name, takes, gives, fails) \
    type name takes { return fails ? -1 : NEXT(name) gives; }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
CALL(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), file_fails(fd))
CALL(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), file_fails(fd))
CALL(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), file_fails(fd))
CALL(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), file_fails(fd))
CALL(int, fsync, (int fd), (fd), file_fails(fd))
CALL(int, fdatasync, (int fd), (fd), file_fails(fd))
CALL(int, ftruncate, (int fd, off_t size), (fd, size), file_fails(fd))
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size), file_fails(fd))
CALL(int, posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size), file_fails(fd))
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), path_fails(path))
CALL(int, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), below_fails(folder, path))
CALL(int, rename, (const char *from, const char *to), (from, to), path_fails(to))
CALL(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), below_fails(b, to))
CALL(int, link, (const char *from, const char *to), (from, to), path_fails(to))
CALL(int, symlink, (const char *from, const char *to), (from, to), path_fails(to))
CALL(int, unlink, (const char *path), (path), path_fails(path))
CALL(int, rmdir, (const char *path), (path), path_fails(path))

#include <sys/sendfile.h>
CALL(ssize_t, sendfile, (int to, int from, off_t *at, size_t size), (to, from, at, size), file_fails(to))
CALL(ssize_t, sendfile64, (int to, int from, off64_t *at, size_t size), (to, from, at, size), file_fails(to))
CALL(ssize_t, copy_file_range, (int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags),
     (from, a, to, b, size, flags), file_fails(to))
