/* System calls that a sandbox refuses.  Arguments are such that a kernel without the filter would answer otherwise where
 * it can (EFAULT, EINVAL, EBADF), and such that none does harm if it goes through. */

#define SYS(number, ...) syscall(number, __VA_ARGS__, 0, 0, 0, 0, 0)

static int trace_me(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 ? errno : 0; }
static int trace_parent(void) {
    if (ptrace(PTRACE_ATTACH, getppid(), 0, 0) < 0) return errno;
    waitpid(getppid(), NULL, __WALL);
    ptrace(PTRACE_DETACH, getppid(), 0, 0);
    return 0;
}

static long cloned_flags;
static int clone_into(void) {
    long r = syscall(SYS_clone, cloned_flags | SIGCHLD, 0, 0, 0, 0);
    if (r == 0) _exit(0);
    return r < 0 ? errno : 0;
}

static int unshared_flags;
static int unshare_child(void) { return unshare(unshared_flags) < 0 ? errno : 0; }

static int clone3_user(void) {
    unsigned long long arguments[8] = {CLONE_NEWUSER};
    arguments[4] = SIGCHLD;
    long r = syscall(435, arguments, sizeof arguments);
    if (r == 0) _exit(0);
    return r < 0 ? errno : 0;
}

static int enter_namespace(void) {
    int f = open("/proc/self/ns/net", O_RDONLY);
    return setns(f, 0) < 0 ? errno : 0;
}

static void namespaces(void) {
    static const struct { const char *name; int flag; } kinds[] = {{"user", CLONE_NEWUSER}, {"mount", CLONE_NEWNS},
        {"network", CLONE_NEWNET}, {"process", CLONE_NEWPID}, {"ipc", CLONE_NEWIPC}, {"host name", CLONE_NEWUTS},
        {"cgroup", CLONE_NEWCGROUP}};
    char what[64];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unshared_flags = kinds[i].flag;
        snprintf(what, sizeof what, "unshare %s", kinds[i].name);
        say_child(what, unshare_child);
        cloned_flags = kinds[i].flag;
        snprintf(what, sizeof what, "clone %s", kinds[i].name);
        say_child(what, clone_into);
    }
    unshared_flags = CLONE_NEWUSER | CLONE_NEWNS;
    say_child("unshare user and mount", unshare_child);
    say_child("clone3 user", clone3_user);
    say_child("setns", enter_namespace);
}

static void mounting(void) {
    char handle[64] = {8, 0};
    TRY("mount tmpfs", SYS(SYS_mount, "none", "/tmp", "tmpfs"));
    TRY("remount / writable", SYS(SYS_mount, "none", "/", NULL, 32 | 4096)); /* MS_REMOUNT|MS_BIND */
    TRY("bind mount", SYS(SYS_mount, "/proc", "/tmp", NULL, 4096));
    TRY("umount", SYS(SYS_umount2, "/tmp"));
    TRY("fsopen", SYS(430, "tmpfs"));
    TRY("open_tree", SYS(428, -100, "/"));
    TRY("move_mount", SYS(429, -1, "", -1, ""));
    TRY("mount_setattr", SYS(442, -1, "/"));
    TRY("pivot_root", SYS(SYS_pivot_root, "/tmp", "/tmp"));
    TRY("chroot", chroot("/tmp"));
    TRY("name_to_handle_at", SYS(SYS_name_to_handle_at, -100, "/", handle, handle + 32));
    TRY("open_by_handle_at", SYS(SYS_open_by_handle_at, -1, handle)); /* how Docker's own file systems were once left */
}

static void kernel(void) {
    char buffer[128] = {0};
    long event[16] = {0};
    say_child("ptrace of oneself", trace_me);
    say_child("ptrace of another", trace_parent);
    TRY("process_vm_readv", SYS(SYS_process_vm_readv, getpid()));
    TRY("process_vm_writev", SYS(SYS_process_vm_writev, getpid()));
    TRY("pidfd_getfd", SYS(438, -1));
    TRY("kcmp", SYS(SYS_kcmp, getpid(), getpid()));
    TRY("bpf map", SYS(SYS_bpf, 0, buffer, sizeof buffer));
    TRY("bpf program", SYS(SYS_bpf, 5, buffer, sizeof buffer));
    event[0] = 1 | (long)112 << 32; /* a software event, of this process */
    TRY("perf_event_open", SYS(SYS_perf_event_open, event, 0, -1, -1, 0));
    TRY("keyctl", SYS(SYS_keyctl, 0, -3));
    TRY("add_key", SYS(SYS_add_key, "user", "hm-escape", "a", 1, -2));
    TRY("request_key", SYS(SYS_request_key, "user", "hm-escape"));
    TRY("userfaultfd", SYS(SYS_userfaultfd, 1));
    TRY("io_uring_setup", SYS(425, 1, buffer));
    TRY("io_uring_enter", SYS(426, -1));
    TRY("io_uring_register", SYS(427, -1));
    TRY("io_setup", SYS(SYS_io_setup, 1, buffer));
    TRY("kexec_load", SYS(SYS_kexec_load, 0, -1)); /* too many segments, were it let through */
    TRY("init_module", SYS(SYS_init_module, buffer, 1, ""));
    TRY("finit_module", SYS(SYS_finit_module, -1, ""));
    TRY("delete_module", SYS(SYS_delete_module, "hm_escape_none"));
    TRY("acct", SYS(SYS_acct, "/hm-escape-none"));
    TRY("swapon", SYS(SYS_swapon, "/hm-escape-none"));
    TRY("reboot", SYS(SYS_reboot, 0)); /* without its magic numbers it is EINVAL */
    TRY("sethostname", sethostname("x", 1));
    TRY("clock_settime", SYS(SYS_clock_settime, -1, buffer));
    TRY("settimeofday", SYS(SYS_settimeofday, -1, -1));
    TRY("personality", personality(ADDR_NO_RANDOMIZE));
    TRY("syslog", SYS(SYS_syslog, 10));
    TRY("fanotify_init", SYS(SYS_fanotify_init, -1));
    TRY("vmsplice", SYS(SYS_vmsplice, -1));
    TRY("move_pages", SYS(SYS_move_pages, 0));
    TRY("shmget", SYS(SYS_shmget, 0, 4096, 01600));
    TRY("msgget", SYS(SYS_msgget, 0, 01600));
    TRY("mq_open", SYS(SYS_mq_open, "hm-escape", O_RDWR));
    TRY("kernel crypto socket", socket(38, SOCK_SEQPACKET, 0));
    TRY("netfilter socket", socket(AF_NETLINK, SOCK_RAW, 12));
    TRY("audit socket", socket(AF_NETLINK, SOCK_RAW, 9));
}
