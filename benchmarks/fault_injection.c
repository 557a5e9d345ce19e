/* Loaded before the C library: file operations below one folder fail, or end the process, as a file of orders says.
 *
 * FAULTS_ORDERS names that file, FAULTS_ROOT the folder. `fault_injection.py` writes the orders while the process runs.
 * SQLite, Python and every library come through here, since all of them ask the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILL 9999

struct orders {
    int armed;            /* whether anything is to fail */
    int error;            /* errno, or KILL */
    long let_pass;        /* so many of what matches go well first */
    long fail;            /* then so many fail; -1: all */
    long matched, failed; /* so far */
    char operation[16];   /* see `fault_injection.py`; "change": all that need the disk to take something */
    char path[64];        /* somewhere in the path; empty: anywhere below the folder */
    int traced;           /* whether each operation is written down beside the orders */
};

static struct orders *orders;
static char root[PATH_MAX];
static size_t root_length;
static int trace_to = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTS_ORDERS"), *folder = getenv("FAULTS_ROOT");
    if (file == NULL || folder == NULL) return;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
    if (descriptor < 0) return;
    void *mapped = mmap(NULL, sizeof(struct orders), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (mapped == MAP_FAILED) return;
    snprintf(root, sizeof root, "%s/", folder);
    root_length = strlen(root);
    char trace[PATH_MAX];
    snprintf(trace, sizeof trace, "%s.trace", file);
    trace_to = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    orders = mapped;
}

static int concerns(const char *operation, const char *path) {
    int changes = strcmp(operation, "read") && strcmp(operation, "open") && strcmp(operation, "remove") && strcmp(operation, "cut");
    int wanted = !strcmp(orders->operation, operation) || (!strcmp(orders->operation, "change") && changes);
    return wanted && strstr(path + root_length - 1, orders->path) != NULL;
}

/* 0 to go on, else -1 with errno. */
static int ask(const char *operation, const char *path) {
    if (orders == NULL || !(orders->armed || orders->traced) || strncmp(path, root, root_length)) return 0;
    if (orders->traced && trace_to >= 0) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", operation, path + root_length);
        syscall(SYS_write, trace_to, line, length);
    }
    if (!orders->armed || !concerns(operation, path)) return 0;
    pthread_mutex_lock(&lock);
    long number = orders->matched++;
    int fails = number >= orders->let_pass && (orders->fail < 0 || number < orders->let_pass + orders->fail);
    if (fails) orders->failed++;
    pthread_mutex_unlock(&lock);
    if (!fails) return 0;
    if (orders->error == KILL) {
        orders->armed = 0;
        raise(SIGKILL);
    }
    errno = orders->error;
    return -1;
}

static int ask_at(const char *operation, int folder, const char *path) {
    if (orders == NULL || !(orders->armed || orders->traced) || path == NULL) return 0;
    if (path[0] == '/') return ask(operation, path);
    char whole[PATH_MAX], from[64];
    ssize_t length;
    if (folder == AT_FDCWD) {
        if (getcwd(whole, sizeof whole) == NULL) return 0;
        length = (ssize_t)strlen(whole);
    } else {
        snprintf(from, sizeof from, "/proc/self/fd/%d", folder);
        length = readlink(from, whole, sizeof whole - 1);
        if (length < 0) return 0;
    }
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return ask(operation, whole);
}

static int ask_of(const char *operation, int descriptor) {
    if (orders == NULL || !(orders->armed || orders->traced)) return 0;
    char path[PATH_MAX], from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(from, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return ask(operation, path);
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (next == NULL) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static const char *opening(int folder, const char *path, int flags) {
    int makes = (flags & O_CREAT) && syscall(SYS_faccessat, folder, path, F_OK) != 0;
    return makes ? "create" : "open";
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return ask_at(opening(AT_FDCWD, path, flags), AT_FDCWD, path) ? -1 : next(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return ask_at(opening(folder, path, flags), folder, path) ? -1 : next(folder, path, flags, mode); \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

ssize_t write(int fd, const void *data, size_t size) { NEXT(write); return ask_of("write", fd) ? -1 : next(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { NEXT(pwrite); return ask_of("write", fd) ? -1 : next(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { NEXT(pwrite64); return ask_of("write", fd) ? -1 : next(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { NEXT(writev); return ask_of("write", fd) ? -1 : next(fd, parts, count); }
ssize_t read(int fd, void *data, size_t size) { NEXT(read); return ask_of("read", fd) ? -1 : next(fd, data, size); }
ssize_t pread(int fd, void *data, size_t size, off_t at) { NEXT(pread); return ask_of("read", fd) ? -1 : next(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { NEXT(pread64); return ask_of("read", fd) ? -1 : next(fd, data, size, at); }
int fsync(int fd) { NEXT(fsync); return ask_of("sync", fd) ? -1 : next(fd); }
int fdatasync(int fd) { NEXT(fdatasync); return ask_of("sync", fd) ? -1 : next(fd); }
int ftruncate(int fd, off_t size) { NEXT(ftruncate); return ask_of("cut", fd) ? -1 : next(fd, size); }
int ftruncate64(int fd, off64_t size) { NEXT(ftruncate64); return ask_of("cut", fd) ? -1 : next(fd, size); }
int truncate(const char *path, off_t size) { NEXT(truncate); return ask_at("cut", AT_FDCWD, path) ? -1 : next(path, size); }
int truncate64(const char *path, off64_t size) { NEXT(truncate64); return ask_at("cut", AT_FDCWD, path) ? -1 : next(path, size); }
int link(const char *from, const char *to) { NEXT(link); return ask_at("link", AT_FDCWD, to) ? -1 : next(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) { NEXT(linkat); return ask_at("link", b, to) ? -1 : next(a, from, b, to, flags); }
int rename(const char *from, const char *to) { NEXT(rename); return ask_at("rename", AT_FDCWD, to) ? -1 : next(from, to); }
int renameat(int a, const char *from, int b, const char *to) { NEXT(renameat); return ask_at("rename", b, to) ? -1 : next(a, from, b, to); }
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); return ask_at("mkdir", AT_FDCWD, path) ? -1 : next(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { NEXT(mkdirat); return ask_at("mkdir", folder, path) ? -1 : next(folder, path, mode); }
int unlink(const char *path) { NEXT(unlink); return ask_at("remove", AT_FDCWD, path) ? -1 : next(path); }
int unlinkat(int folder, const char *path, int flags) { NEXT(unlinkat); return ask_at("remove", folder, path) ? -1 : next(folder, path, flags); }
int rmdir(const char *path) { NEXT(rmdir); return ask_at("remove", AT_FDCWD, path) ? -1 : next(path); }
