/* Files, sockets, mounts and programs that a sandbox must not have. */

static long open_close(const char *path, int flags) {
    int f = open(path, flags | O_CLOEXEC, 0600);
    int kept = errno;
    if (f >= 0) close(f);
    errno = kept;
    return f;
}

static void engine_sockets(void) {
    static const char *paths[] = {"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
        "/run/podman/podman.sock", "/run/crio/crio.sock", "/run/dbus/system_bus_socket", "/run/systemd/private",
        "/run/user/0/docker.sock", "/run/user/1000/podman/podman.sock", "/proc/1/root/var/run/docker.sock"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) TRY(paths[i], join(paths[i], 0));
}

static void credentials(void) {
    static const char *paths[] = {"/private", "/etc/shadow", "/root/.ssh/id_rsa", "/root/.ssh/id_ed25519",
        "/root/.aws/credentials", "/root/.config/gcloud/credentials.db", "/root/.azure/accessTokens.json",
        "/root/.docker/config.json", "/root/.kube/config", "/root/.netrc", "/root/.gnupg/secring.gpg", "/root/.harbourmaster",
        "/home/user/.ssh/id_rsa", "/run/secrets", "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/var/lib/docker", "/proc/1/root/etc/shadow", "/proc/1/cwd/etc/shadow", "/proc/1/root/private",
        "/sys/class/dmi/id/product_serial"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) TRY(paths[i], open_close(paths[i], O_RDONLY));
}

static void writing(void) {
    static const char *paths[] = {"/x", "/open/x", "/etc/x", "/etc/hosts", "/etc/resolv.conf", "/server", "/run/x",
        "/var/tmp/x", "/dev/x", "/sbin/docker-init", "/dev/init", "/proc/x", "/sys/x", "/sys/fs/cgroup/x",
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *name = strrchr(paths[i], '/');
        TRY(paths[i], open_close(paths[i], !strcmp(name, "/x") ? O_CREAT | O_WRONLY : O_WRONLY));
    }
    TRY("symlink out of /tmp", symlink("/open/linked", "/tmp/link") < 0 ? -1 : open_close("/tmp/link", O_CREAT | O_WRONLY));
    TRY("chmod of its own program", chmod("/server", 0777));
    TRY("rename of /etc", rename("/etc", "/open/etc"));
    TRY("hard link of its own program", link("/server", "/open/server"));
    unlink("/tmp/link");
}

static void kernel_files(void) { /* bytes that can be read of what must be hidden, and mounts that must be read-only */
    static const char *hidden[] = {"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/interrupts", "/proc/timer_list",
        "/proc/sched_debug", "/proc/acpi/wakeup", "/sys/firmware/acpi/tables/DSDT", "/sys/devices/virtual/powercap/intel-rapl/enabled"};
    static const char *locked[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/sys"};
    char byte;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        int f = open(hidden[i], O_RDONLY);
        ssize_t n = f < 0 ? -1 : read(f, &byte, 1);
        if (n == 0) say("%s=EMPTY\n", hidden[i]);
        else TRY(hidden[i], f < 0 ? open(hidden[i], O_RDONLY) : n);
        if (f >= 0) close(f);
    }
    for (size_t i = 0; i < sizeof locked / sizeof *locked; i++) {
        struct statvfs at;
        if (statvfs(locked[i], &at) < 0) say("%s is read-only=%s\n", locked[i], named(-1));
        else say("%s is read-only=%s\n", locked[i], at.f_flag & ST_RDONLY ? "EROFS" : "THROUGH");
    }
}

static void devices(void) {
    static const char usual[] = " null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr core console init ";
    DIR *dev = opendir("/dev");
    struct dirent *entry;
    char padded[272];
    while (dev && (entry = readdir(dev))) {
        snprintf(padded, sizeof padded, " %s ", entry->d_name);
        if (entry->d_name[0] != '.' && !strstr(usual, padded)) say("/dev/%s=THROUGH\n", entry->d_name);
    }
    if (dev) closedir(dev);
    TRY("/dev/mem", open_close("/dev/mem", O_RDONLY));
    TRY("/dev/kmsg", open_close("/dev/kmsg", O_RDONLY));
    TRY("/dev/sda", open_close("/dev/sda", O_RDONLY));
    TRY("/dev/vda", open_close("/dev/vda", O_RDONLY));
    TRY("/dev/fuse", open_close("/dev/fuse", O_RDWR));
    TRY("/dev/kvm", open_close("/dev/kvm", O_RDWR));
    TRY("making a disk device", mknod("/tmp/disk", S_IFBLK | 0600, 0xfe00));
    TRY("making a memory device", mknod("/tmp/memory", S_IFCHR | 0600, 0x101));
}

static int become_root(void) { execl("/setuid", "setuid", NULL); return errno; }
static int group_root(void) { execl("/setgid", "setuid", NULL); return errno; }

static void rights(void) {
    char line[256], set[8], value[64];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        if (sscanf(line, "Cap%3[A-Za-z]:\t%63s", set, value) == 2)
            say("capabilities Cap%s=%s\n", set, strtoull(value, NULL, 16) ? "THROUGH" : "NONE");
        if (sscanf(line, "NoNewPrivs:\t%63s", value) == 1) say("new privileges=%s\n", value[0] == '1' ? "OFF" : "THROUGH");
        if (sscanf(line, "Seccomp:\t%63s", value) == 1) say("system call filter=%s\n", value[0] == '2' ? "ON" : "THROUGH");
    }
    if (status) fclose(status);
    say("being root=%s\n", getuid() == 0 || geteuid() == 0 || getgid() == 0 ? "THROUGH" : "NONE");
    TRY("setuid(0)", setuid(0));
    TRY("setgid(0)", setgid(0));
    TRY("setgroups", setgroups(0, NULL));
    say("setuid program=%s\n", in_child(become_root) == 42 ? "THROUGH" : "NONE");
    say("setgid program=%s\n", in_child(group_root) == 42 ? "THROUGH" : "NONE");
    TRY("chown of a file to root", chown("/tmp", 0, 0));
}

static void copy_self(const char *to) {
    static char block[1 << 16];
    int in = open("/server", O_RDONLY), out = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    ssize_t n;
    while ((n = read(in, block, sizeof block)) > 0) if (write(out, block, (size_t)n) < 0) break;
    close(in);
    close(out);
}

static int run_tmp(void) { execl("/tmp/dropped", "setuid", NULL); return errno; }
static int run_shm(void) { execl("/dev/shm/dropped", "setuid", NULL); return errno; }

static void dropper(void) {
    copy_self("/tmp/dropped");
    copy_self("/dev/shm/dropped");
    errno = in_child(run_tmp);
    say("a program in /tmp=%s\n", errno == 41 ? "THROUGH" : named(-1));
    errno = in_child(run_shm);
    say("a program in /dev/shm=%s\n", errno == 41 ? "THROUGH" : named(-1));
    unlink("/tmp/dropped");
    unlink("/dev/shm/dropped");
}
