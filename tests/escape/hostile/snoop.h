/* Looking for another server's secret: the canary is given as two halves, so that this process does not hold it whole
 * in its own arguments or memory where it would find itself. */

static char canary[128];
static long found_in;

static void look(const char *what, const char *path) {
    static char block[1 << 16];
    int f = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (f < 0) return;
    ssize_t n = read(f, block, sizeof block);
    close(f);
    if (n > 0 && memmem(block, (size_t)n, canary, strlen(canary))) { say("%s=THROUGH\n", what); found_in++; }
}

static void look_under(const char *directory) {
    DIR *d = opendir(directory);
    struct dirent *entry;
    char path[512];
    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        look(directory, path);
        if (strstr(entry->d_name, canary)) { say("a name in %s=THROUGH\n", directory); found_in++; }
    }
    if (d) closedir(d);
}

static void snoop(void) {
    static const char *files[] = {"environ", "cmdline", "comm", "cwd", "mountinfo"};
    static const char *directories[] = {"/tmp", "/dev/shm", "/run", "/run/secrets", "/var/tmp", "/dev/mqueue"};
    char second[64], path[320];
    text_of("first", canary, sizeof canary / 2);
    strcat(canary, text_of("second", second, sizeof second));
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    long processes = 0;
    found_in = 0;
    while (proc && (entry = readdir(proc))) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        processes++;
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, files[i]);
            look(files[i], path);
        }
    }
    if (proc) closedir(proc);
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) look_under(directories[i]);
    for (char **variable = environ; *variable; variable++)
        if (strstr(*variable, canary)) { say("its own environment=THROUGH\n"); found_in++; }
    say("secret=%s\nother processes=%s\n", found_in ? "THROUGH" : "NOT_FOUND", processes > 4 ? "THROUGH" : "NONE");
    memset(canary, 0, sizeof canary);
}

static void about_the_host(void) {
    struct utsname names;
    char line[512];
    uname(&names);
    say("host name=%s\n", strcmp(names.nodename, "sandbox") ? "THROUGH" : "HIDDEN");
    FILE *f = fopen("/proc/self/cgroup", "r");
    int shown = 0;
    while (f && fgets(line, sizeof line, f)) {
        char *path = strrchr(line, ':');
        if (path && path[1] == '/' && path[2] != '\n' && path[2] != 0) shown = 1;
    }
    if (f) fclose(f);
    say("control group path=%s\n", shown ? "THROUGH" : "HIDDEN");
}
