/* The relay: listens on loopback addresses of an otherwise empty network name space and passes each connection on over a
 * Unix socket.  It decides nothing: the broker behind the socket does, and knows the sandbox by the socket itself.
 *
 *   relay SOCKET [dns=ADDRESS:PORT] ADDRESS:PORT...      IPv4, one listener per rule, in the broker's order
 *
 * Each connection to SOCKET starts with eight bytes, big-endian: the listener's number, the address and the port that the
 * client asked for; or 65535 and zeros for the one control connection, which is opened when all listeners are ready.  When
 * it ends, so does the relay, and with it every listener: no broker, no network.  The broker's first byte to a client is
 * 'K' (go on); anything else resets it.
 *
 * The control connection carries questions to the name server at dns=, both ways in frames: the size of the datagram (two
 * bytes), who asks (six bytes, address and port, which the broker hands back) and the datagram.  A frame of size 32768 is
 * no datagram: the broker wants one more listener, at the address and port that it holds, with the next number.
 *
 * One thread, no buffering: bytes are peeked at, sent, and only then taken, so a slow reader is felt by the writer and a
 * thousand connections cost a thousand times 96 bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL 0xFFFF
#define MAX_LISTENERS 2048 /* an entry has at most 100 rules; more come with the names below a *.suffix */
#define MAX_CONNECTIONS 1024
#define ROUNDS 4 /* reads of one direction before others get their turn */
#define EVENTS 64
#define HELLO 8
#define FRAME 8           /* before each datagram */
#define LISTEN 0x8000     /* in the place of a size */
#define MAX_DATAGRAM 1232 /* DNS Flag Day 2020; a question is some 50 bytes */

enum kind { LISTENER, CONTROL_END, NAMES, CLIENT, BROKER };

struct end {
    enum kind kind;
    int fd;
    uint32_t events; /* what epoll watches now */
    uint16_t number; /* of the listener */
    struct connection *of;
};

struct connection {
    struct end client, broker;
    char accepted;         /* the broker said K */
    char done[2];          /* end of file passed on: [0] client to broker, [1] back */
    char blocked[2];       /* the receiver is full */
    char dead;
    struct connection *next; /* in the list of those to free */
};

static int poller, open_connections;
static struct sockaddr_un address;
static char buffer[256 * 1024];
static unsigned char said[FRAME + MAX_DATAGRAM]; /* of the broker on the control connection, not a whole frame yet */
static size_t heard_so_far;
static struct end listeners[MAX_LISTENERS];
static int listening;
static struct connection *garbage;

static void die(int status, const char *what) {
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(status);
}

static void ended(int sig) { (void)sig; _exit(0); }

/* What is watched for nothing is not watched at all: epoll would report a hang-up again and again. */
static void watch(struct end *end, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = end};
    int how = !events ? EPOLL_CTL_DEL : end->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (end->events == events) return;
    end->events = events;
    if (epoll_ctl(poller, how, end->fd, &e) < 0) die(4, "epoll_ctl");
}

static struct sockaddr_in place_of(char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    char *colon = strrchr(text, ':');
    if (!colon) { errno = EINVAL; die(2, text); }
    *colon = 0;
    in.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, text, &in.sin_addr) != 1) { errno = EINVAL; die(2, text); }
    return in;
}

/* -1, and errno, where that is not possible. */
static int bound(const struct sockaddr_in *in, int type) {
    int one = 1, fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 || bind(fd, (struct sockaddr *)in, sizeof *in) < 0 ||
        (type == SOCK_STREAM && listen(fd, 1024) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A number is used up also where the server itself has taken the port: the broker counts likewise. */
static int add_listener(const struct sockaddr_in *in) {
    struct end *end = &listeners[listening];
    if (listening == MAX_LISTENERS) return -1;
    *end = (struct end){.kind = LISTENER, .fd = bound(in, SOCK_STREAM), .number = (uint16_t)listening++};
    if (end->fd >= 0) watch(end, EPOLLIN);
    return end->fd;
}

/* A connection to the broker that has said what it is; -1 if there is none to be had at once. */
static int reach(uint16_t number, const struct sockaddr_in *wanted, int flags) {
    unsigned char hello[HELLO] = {(unsigned char)(number >> 8), (unsigned char)number};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) return -1;
    memcpy(hello + 2, &wanted->sin_addr, 4);
    memcpy(hello + 6, &wanted->sin_port, 2);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || send(fd, hello, HELLO, MSG_NOSIGNAL) != HELLO) {
        close(fd);
        return -1;
    }
    return fd;
}

/* What closing a client's socket means: a reset, or the end of the data after all of it. */
static void on_close(int fd, int is_reset) {
    struct linger how = {is_reset, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &how, sizeof how);
}

static void finish(struct connection *c, int with_reset) {
    if (c->dead) return;
    c->dead = 1;
    on_close(c->client.fd, with_reset);
    close(c->client.fd);
    close(c->broker.fd);
    open_connections--;
    c->next = garbage; /* events of this very round may still point at it */
    garbage = c;
}

static void welcome(struct end *listener) {
    struct connection *c = NULL;
    struct sockaddr_in wanted = {0};
    socklen_t size = sizeof wanted;
    int one = 1, broker = -1, client = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    on_close(client, 1); /* also when we die: only an end that both sides made is one */
    if (open_connections < MAX_CONNECTIONS && !getsockname(client, (struct sockaddr *)&wanted, &size))
        broker = reach(listener->number, &wanted, SOCK_NONBLOCK);
    if (broker >= 0) c = calloc(1, sizeof *c);
    if (!c) {
        close(client);
        if (broker >= 0) close(broker);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->client = (struct end){.kind = CLIENT, .fd = client, .of = c};
    c->broker = (struct end){.kind = BROKER, .fd = broker, .of = c};
    open_connections++;
    watch(&c->client, EPOLLIN);
    watch(&c->broker, EPOLLIN);
}

/* The broker ends well by closing its writing side alone; when all of it is closed while the client still talks, it cut
 * the connection, and the client must not take that for the end of the data. */
static int was_cut(struct connection *c) {
    struct pollfd p = {.fd = c->broker.fd, .events = POLLIN};
    return !c->done[0] && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static void end_of_file(struct connection *c, int back) {
    if (back && was_cut(c)) { finish(c, 1); return; }
    c->done[back] = 1;
    shutdown(back ? c->client.fd : c->broker.fd, SHUT_WR);
}

/* Move what there is in one direction; the connection is finished on any error. */
static void pump(struct connection *c, int back) {
    int from = back ? c->broker.fd : c->client.fd, to = back ? c->client.fd : c->broker.fd;
    int round;
    if (c->dead || c->done[back]) return;
    c->blocked[back] = 0;
    for (round = 0; round < ROUNDS; round++) {
        ssize_t there = recv(from, buffer, sizeof buffer, MSG_PEEK), sent, left;
        if (there == 0) { end_of_file(c, back); return; }
        if (there < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (there < 0) { finish(c, 1); return; }
        sent = send(to, buffer, (size_t)there, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) { finish(c, 1); return; }
        /* TCP can drop bytes without copying them (tcp(7), MSG_TRUNC); Unix sockets copy once more */
        for (left = sent; left > 0; ) {
            ssize_t taken = recv(from, buffer, (size_t)left, back ? 0 : MSG_TRUNC);
            if (taken <= 0) { finish(c, 1); return; }
            left -= taken;
        }
        if (sent < there) { c->blocked[back] = 1; return; }
    }
}

static void heard(struct connection *c) {
    char answer = 0;
    ssize_t n = recv(c->broker.fd, &answer, 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n != 1 || answer != 'K') { finish(c, 1); return; }
    c->accepted = 1;
}

static void serve(struct end *end, uint32_t events) {
    struct connection *c = end->of;
    if (c->dead) return;
    if (!c->accepted && end->kind == BROKER && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) heard(c);
    pump(c, 0);
    if (c->accepted) pump(c, 1);
    if (!c->dead && (events & EPOLLERR)) finish(c, 1);
    if (!c->dead && c->done[0] && c->done[1]) finish(c, 0);
    if (c->dead) return;
    watch(&c->client, (c->done[0] || c->blocked[0] ? 0 : EPOLLIN) | (c->blocked[1] ? EPOLLOUT : 0));
    watch(&c->broker, (c->done[1] || c->blocked[1] ? 0 : EPOLLIN) | (c->blocked[0] ? EPOLLOUT : 0));
}

/* A question for the broker.  One that it has no room for is lost, as datagrams are; who asks will ask again. */
static void ask(int names, int control) {
    unsigned char frame[FRAME + MAX_DATAGRAM + 1];
    struct sockaddr_in from = {0};
    socklen_t size = sizeof from;
    ssize_t n = recvfrom(names, frame + FRAME, MAX_DATAGRAM + 1, 0, (struct sockaddr *)&from, &size), sent;
    if (n <= 0 || n > MAX_DATAGRAM) return;
    frame[0] = (unsigned char)(n >> 8);
    frame[1] = (unsigned char)n;
    memcpy(frame + 2, &from.sin_addr, 4);
    memcpy(frame + 6, &from.sin_port, 2);
    sent = send(control, frame, (size_t)(FRAME + n), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0 && sent < FRAME + n) die(6, "control"); /* half a frame: what follows would be read wrongly */
}

/* Answers from the broker.  0: it is gone, or speaks another language. */
static int answer(int names, int control) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    ssize_t n = recv(control, said + heard_so_far, sizeof said - heard_so_far, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (n <= 0 || names < 0) return 0;
    heard_so_far += (size_t)n;
    while (heard_so_far >= FRAME) {
        size_t size = (size_t)said[0] << 8 | said[1];
        int is_listen = size == LISTEN;
        if (is_listen) size = 0;
        if (size > MAX_DATAGRAM) return 0;
        if (heard_so_far < FRAME + size) break;
        memcpy(&to.sin_addr, said + 2, 4);
        memcpy(&to.sin_port, said + 6, 2);
        if (is_listen) add_listener(&to);
        else (void)!sendto(names, said + FRAME, size, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
        heard_so_far -= FRAME + size;
        memmove(said, said + FRAME + size, heard_so_far);
    }
    return 1;
}

static void free_garbage(void) {
    while (garbage) {
        struct connection *next = garbage->next;
        free(garbage);
        garbage = next;
    }
}

int main(int argc, char **argv) {
    static struct end control, names = {.kind = NAMES, .fd = -1};
    static const struct sockaddr_in nobody;
    struct epoll_event events[EVENTS];
    struct sockaddr_in place;
    int i, n, first = 2;
    signal(SIGTERM, ended);
    signal(SIGINT, ended);
    if (argc > 2 && !strncmp(argv[2], "dns=", 4)) first = 3;
    if (argc < 2 || argc - first > MAX_LISTENERS || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: relay SOCKET [dns=ADDRESS:PORT] ADDRESS:PORT...\n");
        return 2;
    }
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, argv[1]);
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die(4, "epoll_create1");
    if (first == 3) {
        place = place_of(argv[2] + 4);
        if ((names.fd = bound(&place, SOCK_DGRAM)) < 0) die(3, "dns");
        watch(&names, EPOLLIN);
    }
    for (i = 0; i < argc - first; i++) {
        place = place_of(argv[i + first]);
        if (add_listener(&place) < 0) die(3, "listen");
    }
    control = (struct end){.kind = CONTROL_END, .fd = reach(CONTROL, &nobody, 0)};
    if (control.fd < 0) die(5, "no broker");
    watch(&control, EPOLLIN | EPOLLRDHUP);
    for (;;) {
        n = epoll_wait(poller, events, EVENTS, -1);
        if (n < 0 && errno != EINTR) die(4, "epoll_wait");
        for (i = 0; i < n; i++) {
            struct end *end = events[i].data.ptr;
            if (end->kind == CONTROL_END && !answer(names.fd, control.fd)) return 0;
            if (end->kind == NAMES) ask(names.fd, control.fd);
            else if (end->kind == LISTENER) welcome(end);
            else if (end->kind != CONTROL_END) serve(end, events[i].events);
        }
        free_garbage();
    }
}
