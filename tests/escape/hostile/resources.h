/* Bombs.  Each stops by itself at the number it is given: a sandbox that lets it come so far has not stopped it. */

#define MIB (1u << 20)

static void fork_bomb(void) {
    long most = number_of("most", 64), n = 0;
    pid_t *children = calloc((size_t)most, sizeof *children);
    for (errno = 0; n < most; n++) {
        pid_t child = fork();
        if (child == 0) { for (;;) pause(); }
        if (child < 0) break;
        children[n] = child;
    }
    say("fork: %s\n", strerror(errno)); /* as a shell would word it */
    say("processes=%s\n", named(n < most ? -1 : 0));
    say("made=%ld\n", n);
    for (long i = 0; i < n; i++) kill(children[i], SIGKILL);
    for (long i = 0; i < n; i++) waitpid(children[i], NULL, 0);
    free(children);
}

static void memory_bomb(void) {
    long most = number_of("most_mb", 128);
    for (long i = 0; i < most; i++) {
        char *block = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) { TRY("memory", -1); return; }
        memset(block, 1 + (int)(i % 100), MIB);
    }
    say("memory=THROUGH\n");
}

static long fill(const char *directory, long most, int one_file) {
    static char block[MIB];
    char name[128];
    long n = 0, r = 0;
    int f = -1;
    memset(block, 'd', sizeof block);
    for (; n < most; n++) {
        snprintf(name, sizeof name, "%s/fill%ld", directory, one_file ? 0 : n);
        if (f < 0) f = open(name, O_CREAT | O_WRONLY, 0600);
        if (f < 0 || (r = write(f, block, sizeof block)) != (ssize_t)sizeof block) break;
        if (!one_file) { close(f); f = -1; }
    }
    if (n < most && r >= 0 && r != (ssize_t)sizeof block && f >= 0) r = write(f, block, sizeof block); /* a short write, then why */
    int why = errno;
    if (f >= 0) close(f);
    for (long i = 0; i <= n; i++) {
        snprintf(name, sizeof name, "%s/fill%ld", directory, i);
        unlink(name);
    }
    errno = why;
    say("%s %s=%s\n", directory, one_file ? "one file" : "many files", named(n < most ? -1 : 0));
    return n;
}

static void disk_bomb(void) {
    char where[64];
    signal(SIGXFSZ, SIG_IGN);
    say("written_mb=%ld\n", fill(text_of("where", where, sizeof where), number_of("most_mb", 32), (int)number_of("one_file", 0)));
}

static void file_bomb(void) { /* open files */
    long most = number_of("most", 256), n = 0;
    int *files = calloc((size_t)most, sizeof *files);
    for (errno = 0; n < most && (files[n] = dup(0)) >= 0; n++) {}
    int why = errno;
    for (long i = 0; i < n; i++) close(files[i]);
    errno = why;
    say("open files=%s\nopened=%ld\n", named(n < most ? -1 : 0), n);
    free(files);
}

static long counter(const char *path, const char *key) { /* `key number` in a file of counters; -1: not there */
    char line[128], name[64];
    long value = -1, number;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) if (sscanf(line, "%63s %ld", name, &number) == 2 && !strcmp(name, key)) value = number;
    if (f) fclose(f);
    return value;
}

static long throttled(void) {
    static const char *places[] = {"/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu,cpuacct/cpu.stat"};
    for (size_t i = 0; i < 3; i++) {
        long found = counter(places[i], "nr_throttled");
        if (found >= 0) return found;
    }
    return -1;
}

static double now_s(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void cpu_hog(void) {
    double until = now_s(CLOCK_MONOTONIC) + (double)number_of("ms", 500) / 1000;
    long before = throttled();
    pid_t other = fork();
    while (now_s(CLOCK_MONOTONIC) < until) {}
    if (other == 0) _exit(0);
    if (other > 0) waitpid(other, NULL, 0);
    say("every core=%s\n", throttled() > before ? "THROTTLED" : "THROUGH");
}

static void limits(void) {
    char value[64] = "";
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    say("core dumps=%s\n", core.rlim_max == 0 ? "OFF" : "THROUGH");
    FILE *f = fopen("/proc/self/oom_score_adj", "r");
    if (f && fgets(value, sizeof value, f)) say("first to go when the host is short=%s\n", atoi(value) >= 500 ? "YES" : "THROUGH");
    if (f) fclose(f);
    int adjust = open("/proc/self/oom_score_adj", O_WRONLY);
    TRY("asking to be spared", adjust < 0 ? -1 : write(adjust, "-1000", 5));
    if (adjust >= 0) close(adjust);
    TRY("a higher priority", setpriority(PRIO_PROCESS, 0, -10));
    struct rlimit more = {1 << 20, 1 << 20};
    TRY("more open files", setrlimit(RLIMIT_NOFILE, &more));
    struct sched_param realtime = {.sched_priority = 10};
    TRY("real-time scheduling", sched_setscheduler(0, SCHED_FIFO, &realtime));
}

static void zombies(void) { /* orphans that end at once: whoever is pid 1 has to bury them */
    long most = number_of("most", 16), left = 0;
    for (long i = 0; i < most; i++) {
        pid_t middle = fork();
        if (middle == 0) {
            if (fork() == 0) _exit(0);
            _exit(0);
        }
        if (middle > 0) waitpid(middle, NULL, 0);
    }
    for (int tries = 0; tries < 50; tries++) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        char path[300], state;
        left = 0;
        while (proc && (entry = readdir(proc))) {
            snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
            FILE *f = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
            if (f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && state == 'Z') left++;
            if (f) fclose(f);
        }
        if (proc) closedir(proc);
        if (!left) break;
        usleep(10000);
    }
    say("zombies=%s\nleft=%ld\n", left ? "THROUGH" : "REAPED", left);
}

static void signals(void) { /* pid 1 is the engine's init: the kernel keeps signals of its own children from it */
    kill(1, SIGKILL);
    kill(1, SIGSTOP);
    usleep(20000);
    FILE *f = fopen("/proc/1/stat", "r");
    char state = '?';
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = '?';
    if (f) fclose(f);
    say("killing pid 1=%s\n", getpid() != 1 && kill(1, 0) == 0 && state != 'T' ? "IGNORED" : "THROUGH");
    long own = number_of("pid", 0); /* a process of the host's, by its number there */
    TRY("signal to a process of the host", own ? kill((pid_t)own, 0) : -1);
}
