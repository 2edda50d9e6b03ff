/* Ways out over a network.  Targets come as `address|port`, separated by commas. */

static socklen_t address_of(char *target, struct sockaddr_storage *to) {
    char *port = strchr(target, '|');
    if (!port) return 0;
    *port = 0;
    memset(to, 0, sizeof *to);
    if (strchr(target, ':')) {
        struct sockaddr_in6 *six = (void *)to;
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)atoi(port + 1));
        int ok = inet_pton(AF_INET6, target, &six->sin6_addr);
        *port = '|';
        return ok == 1 ? sizeof *six : 0;
    }
    struct sockaddr_in *four = (void *)to;
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)atoi(port + 1));
    int ok = inet_pton(AF_INET, target, &four->sin_addr);
    *port = '|';
    return ok == 1 ? sizeof *four : 0;
}

static long reach(struct sockaddr_storage *to, socklen_t size) { /* a TCP connection and a few bytes, within 300 ms */
    int s = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s < 0) return -1;
    long r = connect(s, (void *)to, size);
    if (r < 0 && errno == EINPROGRESS) {
        struct pollfd wait = {.fd = s, .events = POLLOUT};
        int failed = ETIMEDOUT;
        socklen_t length = sizeof failed;
        if (poll(&wait, 1, 300) == 1) getsockopt(s, SOL_SOCKET, SO_ERROR, &failed, &length);
        errno = failed;
        r = failed ? -1 : 0;
    }
    if (r == 0) r = send(s, "escaped\n", 8, MSG_NOSIGNAL);
    int kept = errno;
    close(s);
    errno = kept;
    return r;
}

/* A datagram, and 50 ms for the network to say that it cannot go there; silence counts as having got out. */
static long fling(struct sockaddr_storage *to, socklen_t size, const void *bytes, size_t length) {
    char answer[64];
    int s = socket(to->ss_family, SOCK_DGRAM, 0);
    if (s < 0) return -1;
    struct pollfd wait = {.fd = s, .events = POLLIN};
    long r = connect(s, (void *)to, size);
    if (r == 0) r = send(s, bytes, length, 0);
    if (r >= 0 && poll(&wait, 1, 50) == 1) r = recv(s, answer, sizeof answer, 0);
    int kept = errno;
    close(s);
    errno = kept;
    return r;
}

static void each_target(long (*body)(struct sockaddr_storage *, socklen_t)) {
    static char targets[8192];
    struct sockaddr_storage to;
    text_of("targets", targets, sizeof targets);
    for (char *next, *target = strtok_r(targets, ",", &next); target; target = strtok_r(NULL, ",", &next)) {
        socklen_t size = address_of(target, &to);
        errno = EINVAL;
        TRY(target, size ? body(&to, size) : -1);
    }
}

static long fling_canary(struct sockaddr_storage *to, socklen_t size) { return fling(to, size, "escaped", 7); }

static long ask_name(struct sockaddr_storage *to, socklen_t size) { /* a query whose name would carry a secret out */
    static const char query[] = "\0\1\1\0\0\1\0\0\0\0\0\0\6secret\7example\3com\0\0\1\0\1";
    return fling(to, size, query, sizeof query - 1);
}

static void tcp(void) { each_target(reach); }
static void udp(void) { each_target(fling_canary); }
static void dns(void) { each_target(ask_name); }

static long ping(int family, int kind, int protocol) {
    struct sockaddr_storage to;
    char four[] = "1.1.1.1|0", six[] = "2606:4700:4700::1111|0";
    unsigned char echo[8] = {family == AF_INET ? 8 : 128};
    socklen_t size = address_of(family == AF_INET ? four : six, &to);
    int s = socket(family, kind, protocol);
    if (s < 0) return -1;
    long r = sendto(s, echo, sizeof echo, 0, (void *)&to, size);
    int kept = errno;
    close(s);
    errno = kept;
    return r;
}

static void icmp(void) {
    TRY("icmp ping socket", ping(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    TRY("icmp raw socket", ping(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    TRY("icmpv6 ping socket", ping(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
    TRY("icmpv6 raw socket", ping(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
}

static long give_address(const char *interface) {
    struct ifreq request = {0};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
    memcpy(&request.ifr_addr, &address, sizeof address);
    long r = ioctl(s, SIOCSIFADDR, &request);
    close(s);
    return r;
}

static void interfaces(void) { /* those that exist, and making more */
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *i = all; i && i->if_index; i++)
        if (strcmp(i->if_name, "lo") && strncmp(i->if_name, "tunl", 4) && strncmp(i->if_name, "sit", 3))
            say("interface %s=THROUGH\n", i->if_name);
    TRY("another address for lo", give_address("lo"));
    TRY("packet socket", socket(17, SOCK_RAW, 0));
    TRY("virtual machine socket", socket(40, SOCK_STREAM, 0));
    TRY("bluetooth socket", socket(31, SOCK_RAW, 0));
    TRY("tun device", open("/dev/net/tun", O_RDWR));
}

static long join(const char *name, int abstract) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t length = strlen(name);
    memcpy(to.sun_path + abstract, name, length < 100 ? length : 100);
    long r = connect(s, (void *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + length));
    int kept = errno;
    close(s);
    errno = kept;
    return r;
}

static void unix_abstract(void) {
    char name[128];
    TRY("abstract socket", join(text_of("socket", name, sizeof name), 1));
}

static size_t bytes_of(const char *hex, unsigned char *into, size_t size) {
    size_t n = 0;
    for (; hex[0] && hex[1] && n < size && sscanf(hex, "%2hhx", into + n) == 1; hex += 2) n++;
    return n;
}

/* Says `parts` (hex, by commas) to `to`, each once the answer to the one before is there; tells how the last ended. */
static void speak(void) {
    static char target[128], parts[16384];
    static unsigned char bytes[8192];
    unsigned char heard[13] = {0};
    struct sockaddr_storage to;
    text_of("parts", parts, sizeof parts);
    socklen_t size = address_of((char *)text_of("to", target, sizeof target), &to);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (!size || connect(s, (void *)&to, size) < 0) { say("connection=%s\n", named(-1)); close(s); return; }
    long n = 0;
    for (char *next, *part = strtok_r(parts, ",", &next); part; part = strtok_r(NULL, ",", &next)) {
        struct pollfd wait = {.fd = s, .events = POLLIN};
        if (send(s, bytes, bytes_of(part, bytes, sizeof bytes), MSG_NOSIGNAL) < 0) { n = -1; break; }
        memset(heard, 0, sizeof heard);
        errno = ETIMEDOUT;
        n = poll(&wait, 1, 5000) == 1 ? recv(s, heard, sizeof heard - 1, 0) : -1;
        if (n <= 0) break;
        while (poll(&wait, 1, 50) == 1 && recv(s, bytes, sizeof bytes, 0) > 0) {}
    }
    if (n > 0) say("answer=%s\n", (char *)heard); else say("answer=%s\n", n ? named(-1) : "CLOSED");
    close(s);
}

static void listen_here(void) { /* for a neighbour to find */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number_of("port", 4444))};
    int s = socket(AF_INET, SOCK_STREAM, 0), local = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0hm-escape-neighbour"};
    long r = bind(s, (void *)&address, sizeof address);
    if (r == 0) r = listen(s, 8);
    if (r == 0) r = bind(local, (void *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 20));
    if (r == 0) r = listen(local, 8);
    TRY("listening", r);
}
