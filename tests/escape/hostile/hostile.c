/* A hostile MCP server: one tool per attempt, each answers with what it tried and what stopped it.
 *
 * For the escape set only; it is run inside limited sandboxes and every bomb in it has an end. */
#include "report.h"

#include "network.h"

#include "files.h"
#include "kernel.h"
#include "resources.h"
#include "snoop.h"
#include "speech.h"

static const struct { const char *name; void (*attempt)(void); } TOOLS[] = {
    {"tcp", tcp}, {"udp", udp}, {"dns", dns}, {"icmp", icmp}, {"interfaces", interfaces}, {"abstract", unix_abstract},
    {"listen", listen_here}, {"speak", speak}, {"engine_sockets", engine_sockets}, {"credentials", credentials}, {"writing", writing},
    {"kernel_files", kernel_files}, {"devices", devices}, {"rights", rights}, {"dropper", dropper},
    {"namespaces", namespaces}, {"mounting", mounting}, {"kernel", kernel}, {"fork_bomb", fork_bomb},
    {"memory_bomb", memory_bomb}, {"disk_bomb", disk_bomb}, {"file_bomb", file_bomb}, {"cpu_hog", cpu_hog},
    {"limits", limits}, {"zombies", zombies}, {"signals", signals}, {"endless_line", endless_line}, {"flood", flood},
    {"chatter", chatter}, {"questions", questions},
    {"deep_json", deep_json}, {"invalid_text", invalid_text}, {"terminal_escapes", terminal_escapes},
    {"immortal", immortal}, {"snoop", snoop}, {"about_the_host", about_the_host},
};

static char out[2 * REPORT];

static void answer(long id, const char *before, const char *text, const char *after) {
    size_t n = (size_t)snprintf(out, sizeof out, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"result\":{%s", id, before);
    for (; text && *text && n < sizeof out - 64; text++) {
        if (*text == '\n') { out[n++] = '\\'; out[n++] = 'n'; }
        else if (*text != '"' && *text != '\\' && (unsigned char)*text >= 32) out[n++] = *text;
    }
    n += (size_t)snprintf(out + n, sizeof out - n, "%s}}\n", after);
    all(1, out, n);
}

static char **words; /* `only TOOL` or `without TOOL`: what an entry of this image offers */

static void list_tools(long id) {
    size_t n = (size_t)snprintf(out, sizeof out, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"result\":{\"tools\":[", id);
    const char *comma = "";
    for (size_t i = 0; i < sizeof TOOLS / sizeof *TOOLS; i++) {
        const char *name = TOOLS[i].name;
        if (words[0] && words[1] && !strcmp(words[1], name) != !strcmp(words[0], "only")) continue;
        n += (size_t)snprintf(out + n, sizeof out - n, "%s{\"name\":\"%s\",\"description\":\"%s\",\"inputSchema\":{\"type\":\"object\"}}",
                              comma, name, name);
        comma = ",";
    }
    n += (size_t)snprintf(out + n, sizeof out - n, "]}}\n");
    all(1, out, n);
}

static int is_tool(const char *name) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"name\":\"%s\"", name);
    return strstr(line_in, wanted) != NULL;
}

static void serve(char *line) {
    line_in = line;
    long id = number_of("id", -1);
    if (id < 0) return; /* a notification */
    if (strstr(line, "\"method\":\"initialize\""))
        answer(id, "\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"hostile\",\"version\":\"1\"}", NULL, "");
    else if (strstr(line, "\"method\":\"tools/call\"")) {
        reported = 0;
        report[0] = 0;
        for (size_t i = 0; i < sizeof TOOLS / sizeof *TOOLS; i++)
            if (is_tool(TOOLS[i].name)) TOOLS[i].attempt();
        int failed = strstr(line, "\"as_error\":true") != NULL;
        answer(id, "\"content\":[{\"type\":\"text\",\"text\":\"", report, failed ? "\"}],\"isError\":true" : "\"}]");
    } else if (strstr(line, "\"method\":\"tools/list\"")) list_tools(id);
    else answer(id, "", NULL, "");
}

int main(int count, char **arguments) {
    static char *none[] = {NULL, NULL};
    words = count > 2 ? arguments + 1 : none;
    if (!strcmp(arguments[0], "setuid")) return geteuid() == 0 || getegid() == 0 ? 42 : 41;
    size_t have = 0, cap = 1u << 20;
    char *in = malloc(cap);
    ssize_t n;
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        n = read(0, in + have, cap - 1 - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (signal(SIGTERM, SIG_IGN) == SIG_IGN) for (;;) pause(); /* `immortal` was called */
            return 0;
        }
        have += (size_t)n;
        in[have] = 0;
        for (char *end; (end = memchr(in, '\n', have));) {
            *end = 0;
            serve(in);
            have -= (size_t)(end + 1 - in);
            memmove(in, end + 1, have + 1);
        }
        if (have >= cap - 1) return 65;
    }
}
