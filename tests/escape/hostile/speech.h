/* Things no server should say: on stdout where messages go, and on stderr. */

static void all(int to, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t written = write(to, bytes, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) _exit(0);
        bytes += written;
        n -= (size_t)written;
    }
}

static void repeated(int to, const char *unit, long times) {
    static char block[1 << 16];
    size_t length = strlen(unit), fit = sizeof block / length;
    for (size_t i = 0; i < fit; i++) memcpy(block + i * length, unit, length);
    for (; times > 0; times -= (long)fit) all(to, block, (times < (long)fit ? (size_t)times : fit) * length);
}

static void endless_line(void) { repeated(1, "y", number_of("most_mb", 64) << 20); }

static void flood(void) { repeated(1, "not a message\n", number_of("lines", 100000)); }

static void chatter(void) {
    repeated(1, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"error\",\"data\":\"noise\"}}\n", number_of("lines", 1000));
    repeated(1, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n", number_of("lines", 1000));
    repeated(1, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}\n", number_of("lines", 1000));
}

static void questions(void) { /* to a client that said it answers none; all with one id */
    repeated(1, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"sampling/createMessage\",\"params\":{\"messages\":[],\"maxTokens\":1}}\n", number_of("lines", 1000));
}

static void deep_json(void) {
    long depth = number_of("depth", 200000);
    all(1, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":", 60);
    repeated(1, "[", depth);
    repeated(1, "]", depth);
    all(1, "}\n", 2);
}

static void invalid_text(void) {
    static const char *lines[] = {"\xff\xfe\xfd\n", "{\"jsonrpc\":\"2.0\",\"method\":\"\xc0\x80\"}\n", "{\"jsonrpc\":\"2.0\",\"id\":\"\xed\xa0\x80\",\"result\":{}}\n",
        "\n", "null\n", "[]\n", "{}\n", "{\"jsonrpc\":\"2.0\",\"id\":1e999,\"result\":{}}\n", "{\"jsonrpc\":\"2.0\",\"id\":999999,\"result\":{}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":{\"a\":1},\"method\":\"x\"}\n", "{\"jsonrpc\":\"2.0\",\"method\":7}\n", "\x1b]0;owned\x07\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) all(1, lines[i], strlen(lines[i]));
    all(1, "\0\0\0\n", 4);
    say("said=%zu\n", sizeof lines / sizeof *lines + 1);
}

static void terminal_escapes(void) {
    static const char text[] = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x9b" "31m\r\u202e" "drowssap\n";
    all(2, text, sizeof text - 1);
    repeated(2, "noise ", number_of("noise", 1000));
    all(2, text, sizeof text - 1);
    say("said=1\n");
}

static void immortal(void) { /* deaf to every signal that can be ignored, and to the end of its input */
    for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
    for (int i = 0; i < 4; i++) if (fork() == 0) { setsid(); for (;;) pause(); }
    say("deaf=1\n");
}
