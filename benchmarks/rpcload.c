/* Closed-loop load of calls: CONNECTIONS connections to 127.0.0.1:PORT keep DEPTH calls in flight each.
 *
 *   rpcload PORT CONNECTIONS DEPTH WARMUP_SECONDS SECONDS < FRAME_AND_PAYLOAD
 *
 * The input is a TTHeader frame of a request, and behind it the payload that its reply must have; or a package of Dubbo's
 * and the body of its reply. Each call is that frame with a number of its own, 1 to DEPTH, which serves for the next call when the reply has come; replies may come
 * in any order. Every payload that comes back is compared.
 * Prints "measuring" when the warm-up is over, and at the end one JSON object about the time after it:
 * messages (calls that were answered), seconds, and the round trips' p50, p99 and max in microseconds. On a
 * difference, or when the server closes a connection, it says so and exits with 1.
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

#define CHUNK (256 * 1024)      /* bytes that one recv has room for, at least */
#define LARGEST (8 * 1024 * 1024) /* bytes of a frame, either way */
#define HEAD 14
#define DUBBO_HEAD 16
#define READY 512               /* most events of one epoll_wait */

struct connection {
    int fd;
    int blocked;               /* waits for the socket to take more */
    unsigned char *out, *in;
    size_t outFrom, outTo;     /* what of out is not sent yet */
    size_t have;               /* bytes of in */
    uint64_t *sentAt;          /* when each call was made, by its number; 0: it is not in flight */
};

static struct connection *connections;
static unsigned depth;
static int isDubbo;
static unsigned char *frame, *expected;
static size_t frameSize, expectedSize, outRoom, inRoom;
static int epollFd;

static void refuse(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static uint32_t number32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static size_t sizeOf(const unsigned char *at)
{
    return isDubbo ? DUBBO_HEAD + (size_t)number32(at + 12) : (size_t)number32(at) + 4;
}

/* Where the payload of a reply begins; 0: the bytes are none. */
static size_t bodyOf(const unsigned char *at)
{
    if (isDubbo)
        return at[0] == 0xda && at[1] == 0xbb && !(at[2] & 0x80) ? DUBBO_HEAD : 0;
    return at[4] == 0x10 && at[5] == 0 ? HEAD + 4 * ((size_t)at[12] << 8 | at[13]) : 0;
}

static void *room(size_t size)
{
    void *made = calloc(1, size);
    if (!made)
        fail("calloc");
    return made;
}

static void readInput(void)
{
    size_t have = 0, got;
    frame = room(2 * LARGEST);
    while ((got = fread(frame + have, 1, 2 * LARGEST - have, stdin)) > 0)
        have += got;
    isDubbo = have > 1 && frame[0] == 0xda && frame[1] == 0xbb;
    if (have < DUBBO_HEAD || (frameSize = sizeOf(frame)) > have)
        refuse("the input is no frame and a payload");
    expected = frame + frameSize;
    expectedSize = have - frameSize;
    outRoom = depth * frameSize;
    inRoom = CHUNK + expectedSize + CHUNK; /* and the blocks of a reply, which have at most 262,140 bytes */
}

static void watch(struct connection *c, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (c->blocked ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epollFd, operation, c->fd, &event))
        fail("epoll_ctl");
}

static void sendOut(struct connection *c)
{
    int blocked = 0;
    while (c->outFrom < c->outTo && !blocked) {
        ssize_t sent = send(c->fd, c->out + c->outFrom, c->outTo - c->outFrom, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            fail("send");
        if (sent < 0)
            blocked = 1;
        else
            c->outFrom += (size_t)sent;
    }
    if (!blocked)
        c->outFrom = c->outTo = 0;
    if (blocked != c->blocked) {
        c->blocked = blocked;
        watch(c, EPOLL_CTL_MOD);
    }
}

/* Put a call behind what is to be sent. */
static void request(struct connection *c, uint32_t number, uint64_t at)
{
    unsigned char *made;
    if (c->outTo + frameSize > outRoom) {
        memmove(c->out, c->out + c->outFrom, c->outTo - c->outFrom);
        c->outTo -= c->outFrom;
        c->outFrom = 0;
    }
    made = c->out + c->outTo;
    memcpy(made, frame, frameSize);
    made[8] = (unsigned char)(number >> 24);
    made[9] = (unsigned char)(number >> 16);
    made[10] = (unsigned char)(number >> 8);
    made[11] = (unsigned char)number;
    c->outTo += frameSize;
    c->sentAt[number] = at;
}

/* Take what has come, make a new call for every reply, and return their number. */
static unsigned receive(struct connection *c)
{
    ssize_t got = recv(c->fd, c->in + c->have, inRoom - c->have, 0);
    size_t at = 0;
    unsigned replies = 0;
    uint64_t t = now();
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        refuse("the server closed a connection");
    c->have += (size_t)got;
    while (c->have - at >= DUBBO_HEAD) {
        const unsigned char *reply = c->in + at;
        size_t size = sizeOf(reply), body = bodyOf(reply);
        uint32_t number = number32(reply + 8); /* with Dubbo the lower half of it */
        if (size > inRoom || body > size || !body)
            refuse("what came is no frame of this kind");
        if (c->have - at < size)
            break;
        at += size;
        if (!number || (isDubbo && reply[2] & 0x20))
            continue; /* a control frame, an event */
        if (number > depth || !c->sentAt[number])
            refuse("a reply to a call that was not made");
        if (size - body != expectedSize || memcmp(reply + body, expected, expectedSize))
            refuse("a reply differs from what was expected");
        record(t - c->sentAt[number]);
        request(c, number, t);
        replies++;
    }
    memmove(c->in, c->in + at, c->have - at);
    c->have -= at;
    if (replies && !c->blocked)
        sendOut(c);
    return replies;
}

static void openConnection(struct connection *c, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->out = room(outRoom);
    c->in = room(inRoom);
    c->sentAt = room((depth + 1) * sizeof *c->sentAt);
    watch(c, EPOLL_CTL_ADD);
}

int main(int argc, char **argv)
{
    struct epoll_event ready[READY];
    uint64_t begin, start, stop, t, messages = 0;
    int measuring = 0;
    if (argc != 6) {
        fprintf(stderr, "usage: rpcload PORT CONNECTIONS DEPTH WARMUP_SECONDS SECONDS < FRAME_AND_PAYLOAD\n");
        return 2;
    }
    int count = atoi(argv[2]);
    depth = (unsigned)atoi(argv[3]);
    readInput();
    epollFd = epoll_create1(0);
    if (epollFd < 0)
        fail("epoll_create1");
    connections = room((size_t)count * sizeof *connections);
    for (int i = 0; i < count; i++)
        openConnection(&connections[i], atoi(argv[1]));

    begin = now();
    start = begin + (uint64_t)(atof(argv[4]) * 1e9);
    stop = start + (uint64_t)(atof(argv[5]) * 1e9);
    for (int i = 0; i < count; i++) {
        for (unsigned number = 1; number <= depth; number++)
            request(&connections[i], number, now());
        sendOut(&connections[i]);
    }
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
                sendOut(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                messages += receive(c);
        }
    }
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}\n",
           (unsigned long long)messages, (double)(t - begin) / 1e9, percentile(.5, messages),
           percentile(.99, messages), percentile(1, messages));
    return 0;
}
