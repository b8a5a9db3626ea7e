/* Closed-loop echo load: CONNECTIONS connections to 127.0.0.1:PORT keep DEPTH frames of SIZE bytes in flight each.
 *
 *   load PORT CONNECTIONS DEPTH SIZE WARMUP_SECONDS SECONDS [ws]
 *
 * A frame is a 4-byte little-endian length and SIZE pseudo-random bytes; with ws it is a binary WebSocket message of
 * these, masked, on the path /. Every byte that comes back is compared.
 * Prints "measuring" when the warm-up is over, and at the end one JSON object about the time after it:
 * messages (that came back), seconds, and the round trips' p50, p99 and max in microseconds. On a difference, or
 * when the server closes a connection, it says so and exits with 1.
 *
 * All frames are equal, so each direction is an endless stream. A connection is a position in each, and tables that
 * repeat the frame serve for sending many frames with one call and for comparing with one memcmp.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "roundtrips.h"

#define CHUNK (256 * 1024) /* most bytes of one send or recv */
#define READY 512          /* most events of one epoll_wait */

struct connection {
    int fd;
    int blocked;            /* waits for the socket to take more */
    size_t outAt, inAt;     /* positions in the streams, modulo a frame */
    uint64_t owed;          /* bytes that should be sent by now and are not */
    unsigned first, last;   /* frames in flight, in sentAt */
    uint64_t *sentAt;       /* when each was handed over, a ring of depth + 1 */
};

static struct connection *connections;
static unsigned depth;
static size_t outSize, inSize; /* bytes of a frame that is sent, and of its echo, which has no mask */
static unsigned char *outStream, *inStream;
static int epollFd;

/* A table that begins with a frame of head and payload, and repeats it. */
static unsigned char *repeated(const unsigned char *head, size_t headSize, const unsigned char *payload, size_t size)
{
    size_t frame = headSize + size;
    unsigned char *table = malloc(frame + CHUNK + frame);
    if (!table)
        fail("malloc");
    memcpy(table, head, headSize);
    memcpy(table + headSize, payload, size);
    for (size_t at = frame; at < frame + CHUNK + frame; at++)
        table[at] = table[at - frame];
    return table;
}

static void buildStreams(uint32_t size, int isWebSocket)
{
    static const unsigned char mask[4] = {0x11, 0x22, 0x33, 0x44};
    unsigned char head[14], *payload = malloc(size);
    size_t headSize = 0;
    uint32_t random = 1;
    if (!payload)
        fail("malloc");
    for (uint32_t at = 0; at < size; at++) {
        random = random * 1664525u + 1013904223u;
        payload[at] = (unsigned char)(random >> 24);
    }
    if (isWebSocket) {
        int extended = size < 126 ? 0 : size < 65536 ? 2 : 8;
        head[headSize++] = 0x82;
        head[headSize++] = extended == 0 ? (unsigned char)size : extended == 2 ? 126 : 127;
        for (int at = extended - 1; at >= 0; at--)
            head[headSize++] = (unsigned char)((uint64_t)size >> 8 * at);
    } else {
        for (; headSize < 4; headSize++)
            head[headSize] = (unsigned char)(size >> 8 * headSize);
    }
    inSize = headSize + size;
    inStream = repeated(head, headSize, payload, size);
    if (isWebSocket) {
        head[1] |= 0x80;
        memcpy(head + headSize, mask, 4);
        headSize += 4;
        for (uint32_t at = 0; at < size; at++)
            payload[at] ^= mask[at & 3];
    }
    outSize = headSize + size;
    outStream = repeated(head, headSize, payload, size);
    free(payload);
}

static void shakeHands(int fd)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    char answer[4096];
    size_t got = 0;
    if (write(fd, request, sizeof request - 1) != (ssize_t)(sizeof request - 1))
        fail("write");
    while (got < 4 || memcmp(answer + got - 4, "\r\n\r\n", 4)) {
        if (got == sizeof answer || read(fd, answer + got, 1) != 1) {
            fprintf(stderr, "no answer to the WebSocket handshake\n");
            exit(1);
        }
        got++;
    }
    if (memcmp(answer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "the WebSocket handshake was refused: %.40s\n", answer);
        exit(1);
    }
}

static void watch(struct connection *c, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (c->blocked ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epollFd, operation, c->fd, &event))
        fail("epoll_ctl");
}

static void sendOwed(struct connection *c)
{
    int blocked = 0;
    while (c->owed && !blocked) {
        ssize_t sent = send(c->fd, outStream + c->outAt, c->owed < CHUNK ? c->owed : CHUNK, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            fail("send");
        if (sent < 0) {
            blocked = 1;
        } else {
            c->outAt = (c->outAt + (size_t)sent) % outSize;
            c->owed -= (uint64_t)sent;
        }
    }
    if (blocked != c->blocked) {
        c->blocked = blocked;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void request(struct connection *c, unsigned frames, uint64_t at)
{
    c->owed += frames * outSize;
    for (; frames; frames--) {
        c->sentAt[c->last] = at;
        c->last = c->last == depth ? 0 : c->last + 1;
    }
    if (!c->blocked)
        sendOwed(c);
}

/* Take what has come, answer every complete frame with a new one, and return their number. */
static unsigned receive(struct connection *c)
{
    static unsigned char data[CHUNK];
    ssize_t got = recv(c->fd, data, sizeof data, 0);
    unsigned frames;
    uint64_t at;
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }
    if (memcmp(data, inStream + c->inAt, (size_t)got)) {
        fprintf(stderr, "the echo differs from what was sent\n");
        exit(1);
    }
    frames = (unsigned)((c->inAt + (size_t)got) / inSize);
    c->inAt = (c->inAt + (size_t)got) % inSize;
    if (frames) {
        at = now();
        for (unsigned i = 0; i < frames; i++) {
            record(at - c->sentAt[c->first]);
            c->first = c->first == depth ? 0 : c->first + 1;
        }
        request(c, frames, at);
    }
    return frames;
}

static void openConnection(struct connection *c, int port, int isWebSocket)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (isWebSocket)
        shakeHands(c->fd);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->sentAt = calloc(depth + 1, sizeof *c->sentAt);
    if (!c->sentAt)
        fail("calloc");
    watch(c, EPOLL_CTL_ADD);
}

int main(int argc, char **argv)
{
    struct epoll_event ready[READY];
    uint64_t begin, start, stop, t, messages = 0;
    int measuring = 0, isWebSocket = argc == 8 && !strcmp(argv[7], "ws");
    if (argc != 7 && !isWebSocket) {
        fprintf(stderr, "usage: load PORT CONNECTIONS DEPTH SIZE WARMUP_SECONDS SECONDS [ws]\n");
        return 2;
    }
    int count = atoi(argv[2]);
    depth = (unsigned)atoi(argv[3]);
    buildStreams((uint32_t)atol(argv[4]), isWebSocket);
    epollFd = epoll_create1(0);
    connections = calloc((size_t)count, sizeof *connections);
    if (epollFd < 0 || !connections)
        fail("epoll_create1");
    for (int i = 0; i < count; i++)
        openConnection(&connections[i], atoi(argv[1]), isWebSocket);

    begin = now();
    start = begin + (uint64_t)(atof(argv[5]) * 1e9);
    stop = start + (uint64_t)(atof(argv[6]) * 1e9);
    for (int i = 0; i < count; i++)
        request(&connections[i], depth, now());
    while ((t = now()) < stop) {
        if (!measuring && t >= start) {
            measuring = 1;
            messages = 0;
            memset(histogram, 0, sizeof histogram);
            puts("measuring");
            fflush(stdout);
            begin = now();
        }
        int n = epoll_wait(epollFd, ready, READY, 50);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT)
                sendOwed(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                messages += receive(c);
        }
    }
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}\n",
           (unsigned long long)messages, (double)(t - begin) / 1e9, percentile(.5, messages),
           percentile(.99, messages), percentile(1, messages));
    return 0;
}
