/*
 * A volume that is slow, full, read-only or dead from some instant on, or whose machine ends at that. To be preloaded.
 *
 * FAULTY_VOLUME is its path. Each metadata operation on it is counted, written into FAULTY_LOG (`call path`) where that
 * is set, and takes FAULTY_SLOW_US microseconds more. FAULTY_KIND (`full`, `readonly`, `hang`, `die`) begins with
 * operation number FAULTY_AT of a process, or once it has written FAULTY_AT_BYTES bytes; then the file FAULTY_ON is
 * made, and as long as it is there the fault is one for every process. What hangs goes on once it is gone. It begins
 * once, as long as the file FAULTY_BEGUN is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_FILES 4096
#define LOOKS 0
#define CHANGES 1
#define TAKES_ROOM 2
#define NEXT(name) dlsym(RTLD_NEXT, #name)

static char *paths[MOST_FILES];
static atomic_long operations, bytes;

static long number_of(const char *name)
{
    const char *told = getenv(name);
    return told ? atol(told) : -1;
}

static int is_below(const char *path)
{
    const char *folder = getenv("FAULTY_VOLUME");
    size_t length = folder ? strlen(folder) : 0;
    return path && length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static const char *path_of(int fd)
{
    return fd >= 0 && fd < MOST_FILES ? paths[fd] : NULL;
}

/* The path that a name below an open folder stands for, in `whole`; NULL where it is not on the volume. */
static const char *below(int folder, const char *name, char *whole)
{
    if (name && name[0] == '/')
        return is_below(name) ? name : NULL;
    if (!path_of(folder))
        return NULL;
    snprintf(whole, PATH_MAX, "%s/%s", path_of(folder), name ? name : "");
    return whole;
}

static void opened(int fd, const char *path)
{
    if (fd < 0 || fd >= MOST_FILES)
        return;
    free(paths[fd]);
    paths[fd] = path ? strdup(path) : NULL;
}

static int is_there(const char *variable)
{
    const char *path = getenv(variable);
    return path && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

static void made(const char *variable)
{
    const char *path = getenv(variable);
    long file = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT, 0600) : -1;
    if (file >= 0)
        syscall(SYS_close, file);
}

static void switch_on(void)
{
    if (is_there("FAULTY_BEGUN"))
        return;
    made("FAULTY_BEGUN");
    made("FAULTY_ON");
}

/* What a fault that is on makes of an operation: an errno, 0 for none, or no return at all. */
static int struck(int changes)
{
    const char *kind = getenv("FAULTY_KIND");
    if (!kind || !is_there("FAULTY_ON"))
        return 0;
    if (strcmp(kind, "die") == 0)
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    while (strcmp(kind, "hang") == 0 && is_there("FAULTY_ON"))
        usleep(20000);
    if (changes && strcmp(kind, "readonly") == 0)
        return EROFS;
    return changes == TAKES_ROOM && strcmp(kind, "full") == 0 ? ENOSPC : 0;
}

static int refused(const char *call, const char *path, int changes)
{
    const char *log = getenv("FAULTY_LOG");
    char line[PATH_MAX + 64];
    int length, reason;
    long file, slow_us = number_of("FAULTY_SLOW_US"), at = number_of("FAULTY_AT");

    if (!path)
        return 0;
    if (atomic_fetch_add(&operations, 1) + 1 == at)
        switch_on();
    if (log && (file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600)) >= 0) {
        length = snprintf(line, sizeof line, "%s %s\n", call, path);
        syscall(SYS_write, file, line, length);
        syscall(SYS_close, file);
    }
    if (slow_us > 0)
        usleep(slow_us);
    reason = struck(changes);
    if (reason)
        errno = reason;
    return reason;
}

#define ON_PATH(result, name, changes, parameters, arguments)                                                          \
    result name parameters                                                                                             \
    {                                                                                                                  \
        result (*next) parameters = NEXT(name);                                                                        \
        if (refused(#name, is_below(path) ? path : NULL, changes))                                                     \
            return -1;                                                                                                 \
        return next arguments;                                                                                         \
    }

ON_PATH(int, stat, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, stat64, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, lstat, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, lstat64, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, statvfs, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, statvfs64, LOOKS, (const char *path, void *buffer), (path, buffer))
ON_PATH(int, access, LOOKS, (const char *path, int mode), (path, mode))
ON_PATH(ssize_t, readlink, LOOKS, (const char *path, char *buffer, size_t size), (path, buffer, size))
ON_PATH(int, mkdir, TAKES_ROOM, (const char *path, unsigned mode), (path, mode))
ON_PATH(int, rmdir, CHANGES, (const char *path), (path))
ON_PATH(int, unlink, CHANGES, (const char *path), (path))
ON_PATH(int, chmod, CHANGES, (const char *path, unsigned mode), (path, mode))
ON_PATH(int, rename, CHANGES, (const char *path, const char *to), (path, to))

#define ON_NAME(name, changes, parameters, arguments)                                                                  \
    int name parameters                                                                                                \
    {                                                                                                                  \
        char whole[PATH_MAX];                                                                                          \
        int(*next) parameters = NEXT(name);                                                                            \
        if (refused(#name, below(folder, path, whole), changes))                                                       \
            return -1;                                                                                                 \
        return next arguments;                                                                                         \
    }

ON_NAME(fstatat, LOOKS, (int folder, const char *path, void *buffer, int flags), (folder, path, buffer, flags))
ON_NAME(fstatat64, LOOKS, (int folder, const char *path, void *buffer, int flags), (folder, path, buffer, flags))
ON_NAME(statx, LOOKS, (int folder, const char *path, int flags, unsigned mask, void *buffer),
        (folder, path, flags, mask, buffer))
ON_NAME(mkdirat, TAKES_ROOM, (int folder, const char *path, unsigned mode), (folder, path, mode))
ON_NAME(unlinkat, CHANGES, (int folder, const char *path, int flags), (folder, path, flags))
ON_NAME(fchmodat, CHANGES, (int folder, const char *path, unsigned mode, int flags), (folder, path, mode, flags))
ON_NAME(renameat, CHANGES, (int folder, const char *path, int to_folder, const char *to), (folder, path, to_folder, to))

#define ON_FILE(name, changes, parameters, arguments)                                                                  \
    int name parameters                                                                                                \
    {                                                                                                                  \
        int(*next) parameters = NEXT(name);                                                                            \
        if (refused(#name, path_of(fd), changes))                                                                      \
            return -1;                                                                                                 \
        return next arguments;                                                                                         \
    }

ON_FILE(fsync, CHANGES, (int fd), (fd))
ON_FILE(fdatasync, CHANGES, (int fd), (fd))
ON_FILE(fstat, LOOKS, (int fd, void *buffer), (fd, buffer))
ON_FILE(fstat64, LOOKS, (int fd, void *buffer), (fd, buffer))
ON_FILE(fchmod, CHANGES, (int fd, unsigned mode), (fd, mode))
ON_FILE(ftruncate, CHANGES, (int fd, off_t size), (fd, size))
ON_FILE(ftruncate64, CHANGES, (int fd, off_t size), (fd, size))

void *opendir(const char *path)
{
    void *(*next)(const char *) = NEXT(opendir);
    return refused("opendir", is_below(path) ? path : NULL, LOOKS) ? NULL : next(path);
}

void *fdopendir(int fd)
{
    void *(*next)(int) = NEXT(fdopendir);
    return refused("fdopendir", path_of(fd), LOOKS) ? NULL : next(fd);
}

static int changes_with(int flags)
{
    if (flags & O_EXCL)
        return TAKES_ROOM;
    return flags & O_TRUNC || (flags & O_ACCMODE) != O_RDONLY ? CHANGES : LOOKS;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        int (*next)(const char *, int, ...) = NEXT(name);                                                              \
        const char *on_volume = is_below(path) ? path : NULL;                                                          \
        va_list more;                                                                                                  \
        unsigned mode;                                                                                                 \
        int fd;                                                                                                        \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, unsigned);                                                                                 \
        va_end(more);                                                                                                  \
        if (refused("open", on_volume, changes_with(flags)))                                                           \
            return -1;                                                                                                 \
        fd = next(path, flags, mode);                                                                                  \
        opened(fd, on_volume);                                                                                         \
        return fd;                                                                                                     \
    }

OPEN(open)
OPEN(open64)

#define OPEN_AT(name)                                                                                                  \
    int name(int folder, const char *path, int flags, ...)                                                             \
    {                                                                                                                  \
        int (*next)(int, const char *, int, ...) = NEXT(name);                                                         \
        char whole[PATH_MAX];                                                                                          \
        const char *on_volume = below(folder, path, whole);                                                            \
        va_list more;                                                                                                  \
        unsigned mode;                                                                                                 \
        int fd;                                                                                                        \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, unsigned);                                                                                 \
        va_end(more);                                                                                                  \
        if (refused("open", on_volume, changes_with(flags)))                                                           \
            return -1;                                                                                                 \
        fd = next(folder, path, flags, mode);                                                                          \
        opened(fd, on_volume);                                                                                         \
        return fd;                                                                                                     \
    }

OPEN_AT(openat)
OPEN_AT(openat64)

int close(int fd)
{
    int (*next)(int) = NEXT(close);
    opened(fd, NULL);
    return next(fd);
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t (*next)(int, const void *, size_t) = NEXT(write);
    long at = number_of("FAULTY_AT_BYTES"), left;
    int reason;

    if (!path_of(fd))
        return next(fd, data, size);
    left = at - atomic_load(&bytes);
    if (at >= 0 && left >= 0 && left < (long)size) {
        if (left) {
            atomic_fetch_add(&bytes, left);
            return next(fd, data, left);
        }
        atomic_fetch_add(&bytes, 1);
        switch_on();
    }
    reason = struck(TAKES_ROOM);
    if (reason) {
        errno = reason;
        return -1;
    }
    atomic_fetch_add(&bytes, size);
    return next(fd, data, size);
}
