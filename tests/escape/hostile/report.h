/* What an attempt says: lines `what=outcome`, an errno by its name, or THROUGH when nothing stopped it. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPORT (256u << 10)

static char report[REPORT];
static size_t reported;
static const char *line_in; /* the request being answered */

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(report + reported, REPORT - reported, format, arguments);
    va_end(arguments);
    if (n > 0 && reported + (size_t)n < REPORT - 1) reported += (size_t)n;
}

static const char *named(long result) {
    const char *name = result < 0 ? strerrorname_np(errno) : "THROUGH";
    return name ? name : "UNKNOWN";
}

#define TRY(what, expression) do { errno = 0; long r_ = (long)(expression); say("%s=%s\n", what, named(r_)); } while (0)

/* The text of argument `key`; arguments hold no escapes. */
static const char *text_of(const char *key, char *into, size_t size) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":\"", key);
    const char *at = strstr(line_in, quoted);
    size_t n = 0;
    if (at) for (at += strlen(quoted); at[n] && at[n] != '"' && n + 1 < size; n++) into[n] = at[n];
    into[n] = 0;
    return into;
}

static long number_of(const char *key, long otherwise) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(line_in, quoted);
    return at ? strtol(at + strlen(quoted), NULL, 10) : otherwise;
}

static int in_child(int (*body)(void)) { /* its exit status: 0, or an errno; a signal as 1000 + number */
    int status = 0;
    pid_t child = fork();
    if (child == 0) _exit(body());
    if (child < 0) return errno;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void say_child(const char *what, int (*body)(void)) {
    errno = in_child(body);
    say("%s=%s\n", what, errno >= 1000 ? "KILLED" : named(errno ? -1 : 0));
}
