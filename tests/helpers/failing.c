/* Makes the n-th write below a folder fail: preloaded, so that Python, Rust and C++ all meet it.

   A write is whatever changes files: opening one to write, writing, flushing, truncating, renaming, making a folder or
   a link, removing. Counted from 1 since arm(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[PATH_MAX];
static struct { long seen; char first[512]; } *record; /* shared with the process that forked this one */
static long wanted;
static int number, stays;

/* The write `which` below `folder` fails with `error`; all later ones too if `forever`. 0: count alone. */
void arm(const char *folder, long which, int error, int forever, void *shared) {
  snprintf(prefix, sizeof prefix, "%s", folder);
  wanted = which, number = error, stays = forever, record = shared;
}

static int hit(const char *what, const char *path) {
  if (!prefix[0] || !path || strncmp(path, prefix, strlen(prefix))) return 0;
  long n = __atomic_add_fetch(&record->seen, 1, __ATOMIC_SEQ_CST);
  if (!wanted || n < wanted || (n > wanted && !stays)) return 0;
  if (n == wanted) snprintf(record->first, sizeof record->first, "%s %s", what, path + strlen(prefix));
  errno = number;
  return 1;
}
static int hit_open(const char *what, int fd) {
  if (!prefix[0]) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return hit(what, path);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND))
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { REAL(open); MODE(flags) return CHANGES(flags) && hit("open", path) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags) return CHANGES(flags) && hit("open", path) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); MODE(flags) return CHANGES(flags) && hit("open", path) ? -1 : real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); MODE(flags) return CHANGES(flags) && hit("open", path) ? -1 : real(at, path, flags, mode); }
/* A full disk takes a part before it says so. */
ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  if (!hit_open("write", fd)) return real(fd, data, size);
  if (number == ENOSPC && size > 1) { int kept = number; real(fd, data, size / 2); errno = kept; }
  return -1;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); return hit_open("write", fd) ? -1 : real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); return hit_open("write", fd) ? -1 : real(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); return hit_open("write", fd) ? -1 : real(fd, parts, count); }
ssize_t sendfile(int to, int from, off_t *at, size_t size) { REAL(sendfile); return hit_open("write", to) ? -1 : real(to, from, at, size); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { REAL(sendfile64); return hit_open("write", to) ? -1 : real(to, from, at, size); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); return hit_open("truncate", fd) ? -1 : real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return hit_open("truncate", fd) ? -1 : real(fd, size); }
int posix_fallocate(int fd, off_t at, off_t size) { REAL(posix_fallocate); return hit_open("allocate", fd) ? number : real(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { REAL(posix_fallocate64); return hit_open("allocate", fd) ? number : real(fd, at, size); }
int fsync(int fd) { REAL(fsync); return hit_open("flush", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return hit_open("flush", fd) ? -1 : real(fd); }
int rename(const char *from, const char *to) { REAL(rename); return hit("rename", to) ? -1 : real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); return hit("rename", to) ? -1 : real(a, from, b, to); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return hit("folder", path) ? -1 : real(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); return hit("folder", path) ? -1 : real(at, path, mode); }
int symlink(const char *to, const char *path) { REAL(symlink); return hit("link", path) ? -1 : real(to, path); }
int symlinkat(const char *to, int at, const char *path) { REAL(symlinkat); return hit("link", path) ? -1 : real(to, at, path); }
/* A full disk lets one remove. */
static int hit_removal(int at, const char *path) {
  char link[64], whole[PATH_MAX];
  ssize_t size = 0;
  if (!prefix[0]) return 0;
  if (at != AT_FDCWD && path[0] != '/') {
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    if ((size = readlink(link, whole, sizeof whole - 1)) < 0) return 0;
    whole[size++] = '/';
  }
  snprintf(whole + size, sizeof whole - size, "%s", path);
  return hit("remove", whole) && number != ENOSPC;
}
int unlink(const char *path) { REAL(unlink); return hit_removal(AT_FDCWD, path) ? -1 : real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); return hit_removal(at, path) ? -1 : real(at, path, flags); }
int rmdir(const char *path) { REAL(rmdir); return hit_removal(AT_FDCWD, path) ? -1 : real(path); }
