/*
 * A network volume that has gone: whatever touches it waits for ever. To be preloaded.
 *
 * DEAD_VOLUME is its path, DEAD_VOLUME_LOG a file that hears of each touch (`PID call path`), and DEAD_VOLUME_MOUNTS
 * what is read in place of /proc/self/mountinfo.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AT_CWD (-100)
#define WRITE_APPEND_CREATE (01 | 02000 | 0100)

static int is_below(const char *path, const char *folder)
{
    size_t length = folder ? strlen(folder) : 0;
    return path && length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static void touched(const char *call, const char *path)
{
    const char *log = getenv("DEAD_VOLUME_LOG");
    char line[4200];
    long file;
    int length;

    if (!is_below(path, getenv("DEAD_VOLUME")))
        return;
    length = snprintf(line, sizeof line, "%d %s %s\n", (int)getpid(), call, path);
    file = log ? syscall(SYS_openat, AT_CWD, log, WRITE_APPEND_CREATE, 0600) : -1;
    if (file >= 0)
        syscall(SYS_write, file, line, length);
    for (;;)
        pause();
}

static const char *in_place_of(const char *path)
{
    const char *mounts = getenv("DEAD_VOLUME_MOUNTS");
    return mounts && path && strcmp(path, "/proc/self/mountinfo") == 0 ? mounts : path;
}

#define NEXT(name) dlsym(RTLD_NEXT, #name)

#define ONE(result, name, kind, value)                                                                                 \
    result name(const char *path, kind value)                                                                          \
    {                                                                                                                  \
        result (*next)(const char *, kind) = NEXT(name);                                                               \
        touched(#name, path);                                                                                          \
        return next(path, value);                                                                                      \
    }

ONE(int, stat, void *, buffer)
ONE(int, stat64, void *, buffer)
ONE(int, lstat, void *, buffer)
ONE(int, lstat64, void *, buffer)
ONE(int, statfs, void *, buffer)
ONE(int, statfs64, void *, buffer)
ONE(int, statvfs, void *, buffer)
ONE(int, statvfs64, void *, buffer)
ONE(int, mkdir, unsigned, mode)

int access(const char *path, int mode)
{
    int (*next)(const char *, int) = NEXT(access);
    touched("access", path);
    return next(path, mode);
}

ssize_t readlink(const char *path, char *buffer, size_t size)
{
    ssize_t (*next)(const char *, char *, size_t) = NEXT(readlink);
    touched("readlink", path);
    return next(path, buffer, size);
}

ssize_t readlinkat(int at, const char *path, char *buffer, size_t size)
{
    ssize_t (*next)(int, const char *, char *, size_t) = NEXT(readlinkat);
    touched("readlinkat", path);
    return next(at, path, buffer, size);
}

void *opendir(const char *path)
{
    void *(*next)(const char *) = NEXT(opendir);
    touched("opendir", path);
    return next(path);
}

int chdir(const char *path)
{
    int (*next)(const char *) = NEXT(chdir);
    touched("chdir", path);
    return next(path);
}

#define STAT_AT(name)                                                                                                  \
    int name(int at, const char *path, void *buffer, int flags)                                                        \
    {                                                                                                                  \
        int (*next)(int, const char *, void *, int) = NEXT(name);                                                      \
        touched(#name, path);                                                                                          \
        return next(at, path, buffer, flags);                                                                          \
    }

STAT_AT(fstatat)
STAT_AT(fstatat64)

#define OLD_STAT(name)                                                                                                 \
    int name(int version, const char *path, void *buffer)                                                              \
    {                                                                                                                  \
        int (*next)(int, const char *, void *) = NEXT(name);                                                           \
        touched(#name, path);                                                                                          \
        return next(version, path, buffer);                                                                            \
    }

OLD_STAT(__xstat)
OLD_STAT(__xstat64)
OLD_STAT(__lxstat)
OLD_STAT(__lxstat64)

int statx(int at, const char *path, int flags, unsigned mask, void *buffer)
{
    int (*next)(int, const char *, int, unsigned, void *) = NEXT(statx);
    touched("statx", path);
    return next(at, path, flags, mask, buffer);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        int (*next)(const char *, int, ...) = NEXT(name);                                                              \
        va_list more;                                                                                                  \
        unsigned mode;                                                                                                 \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, unsigned);                                                                                 \
        va_end(more);                                                                                                  \
        touched(#name, path);                                                                                          \
        return next(in_place_of(path), flags, mode);                                                                   \
    }

OPEN(open)
OPEN(open64)

#define OPEN_AT(name)                                                                                                  \
    int name(int at, const char *path, int flags, ...)                                                                 \
    {                                                                                                                  \
        int (*next)(int, const char *, int, ...) = NEXT(name);                                                         \
        va_list more;                                                                                                  \
        unsigned mode;                                                                                                 \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, unsigned);                                                                                 \
        va_end(more);                                                                                                  \
        touched(#name, path);                                                                                          \
        return next(at, in_place_of(path), flags, mode);                                                               \
    }

OPEN_AT(openat)
OPEN_AT(openat64)
