/* Load of broadcasts: MEMBERS connections to 127.0.0.1:PORT are members of one group, and one more publishes to it.
 *
 *   groupload PORT WIRE MEMBERS SIZE ONCE FLIGHT REST SLOW SLOW_BYTES ECHOES WARMUP_SECONDS SECONDS
 *
 * WIRE: ws (text messages of WebSocket), length (a 4-byte big-endian length before each message), socketio (Socket.IO
 * 5 over WebSocket), nchan (members by WebSocket at /member, publications posted to /pub, echoes are GET /echo). With
 * :deflate behind it permessage-deflate is offered, and has to be taken.
 * A member sends {"do":"join"} first, and has the same back. A publication is {"do":"pub","seq":NUMBER,"text":"..."},
 * SIZE bytes in all; the server sends it to all members as it is. Anything else is echoed. With socketio, what is done
 * is the name of the event.
 * ONCE publications are sent at once; FLIGHT such batches are under way, and the next one leaves when the oldest has
 * reached every member and REST times as long has passed as it took. The last SLOW members read SLOW_BYTES a second
 * (0: nothing) once they have joined, and nothing waits for them. Meanwhile ten connections that are no members have
 * ECHOES echoes a second (0: none), sent whether the last have come back or not.
 * All connections are checked: every publication once, in order, with the right bytes (of compressed ones only their
 * number). Frames count, however they are joined or cut.
 * Prints "measuring" when the warm-up is over, and at the end one JSON object about the time after it: messages
 * (deliveries), publications (that reached every member), bytes (of what members read), seconds, clientSeconds (CPU of
 * this program), closed (slow members that the server has closed), and in microseconds p50 and p99 from sending a
 * publication to each delivery, last50 and last99 to the last one, echo50 and echo99 of the echoes.
 * It ends 3 seconds later, or when it is killed.
 * On a difference, or when the server closes another connection, it says so and exits with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "groupwire.h"

#define CHUNK (256 * 1024)       /* most bytes of one recv */
#define READY 256                /* most events of one epoll_wait */
#define OPENING 64               /* connections that are opened at once */
#define PER_ADDRESS 10000        /* connections from one address, each of which has so many ports and more */
#define PATIENCE 30              /* seconds that an answer may take while connections are opened, and a publication */
#define RING 8192                /* publications under way at most */
#define ECHOES 10                /* connections that have echoes */
#define ECHO_RING 8192           /* echoes under way at most, on a connection */
#define ECHO_TURN 32             /* members that are read between two looks for echoes */
#define LINGER 3                 /* seconds after the report, in which the server is read before it has all closed */
#define SLOW_EVERY 100000000u    /* nanoseconds between two reads of slow members */

enum role { MEMBER, PUBLISHER, ECHO };

struct connection {
    int fd;
    enum role role;
    enum frames frames;
    int isClosed;               /* the server has closed it, which only a slow one may find */
    unsigned char *carry;       /* the beginning of a frame, the rest of which is to come */
    size_t have, room;
    uint64_t seen;              /* publications */
};

struct publication {
    uint64_t at;
    unsigned left;              /* members that it has not reached yet */
};

static const char *WIRES[] = {"ws", "length", "socketio", "nchan"};
static int port, memberEpoll, echoEpoll;
static unsigned members, slow, reading;
static struct connection *connections, publisher, echoes[ECHOES];
static struct publication ring[RING];
static uint64_t published, completed, deliveries, publications, bytes, batchTook, nextAt;
static uint64_t echoSent[ECHOES][ECHO_RING], echoAsked[ECHOES], echoAnswered[ECHOES], echoCount;
static uint64_t echoEvery;       /* nanoseconds between two echoes; 0: there are none */
static trips deliveryTrips, lastTrips, echoTrips;
static unsigned char chunk[CHUNK * 2], *out;
static size_t outFrom, outTo, outRoom;

static void *room(void *old, size_t size)
{
    void *made = realloc(old, size);
    if (!made)
        fail("realloc");
    return made;
}

/* A short message, which the socket has always room for. */
static void sendText(struct connection *c, const void *given, size_t size, int opcode)
{
    unsigned char made[14 + 256], *at;
    if (size > 125)
        refuse("a ping that is too long");
    memcpy(made + 14, given, size);
    at = framed(c->frames, made, size, opcode);
    if (send(c->fd, at, (size_t)(made + 14 + size - at), MSG_NOSIGNAL) != made + 14 + size - at)
        fail("send");
}

static void sendOut(void)
{
    while (outFrom < outTo) {
        ssize_t sent = send(publisher.fd, out + outFrom, outTo - outFrom, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            fail("send");
        if (sent < 0)
            return; /* the loop comes again */
        outFrom += (size_t)sent;
    }
    outFrom = outTo = 0;
}

/* Put a publication behind what is to be sent. */
static void publish(uint64_t t)
{
    struct publication *p = &ring[published % RING];
    if (outTo + publicationSize + 512 > outRoom)
        out = room(out, outRoom = 2 * outRoom + publicationSize + 512);
    if (publisher.frames == HTTP) {
        outTo += (size_t)sprintf((char *)out + outTo,
                                 "POST /pub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                                 "Content-Length: %zu\r\n\r\n", publicationSize);
        writePublication(out + outTo, published);
        outTo += publicationSize;
    } else {
        static unsigned char *made;
        unsigned char *at;
        made = made ? made : room(NULL, 14 + publicationSize);
        writePublication(made + 14, published);
        at = framed(publisher.frames, made, publicationSize, 1);
        memcpy(out + outTo, at, (size_t)(made + 14 + publicationSize - at));
        outTo += (size_t)(made + 14 + publicationSize - at);
    }
    p->at = t;
    p->left = reading;
    published++;
}

/* Answer pings and the like; whether the frame was one of these. */
static int isControl(struct connection *c, const struct frame *f)
{
    if (c->frames == WEBSOCKET && f->opcode == 9)
        sendText(c, f->payload, f->length, 10);
    else if (c->frames == WEBSOCKET && f->opcode == 8)
        refuse("the server closed a connection");
    else if (wire == SOCKETIO && f->length == 1 && *f->payload == '2')
        sendText(c, "3", 1, 1);
    else
        return c->frames == WEBSOCKET && f->opcode > 2;
    return 1;
}

static void delivered(struct connection *c, const struct frame *f, uint64_t t)
{
    struct publication *p = &ring[c->seen % RING];
    if (c->seen >= published)
        refuse("a member has more than was published");
    if (!(isDeflate && f->isCompressed) && !isPublication(f->payload, f->length, c->seen))
        refuse("a member has missed a publication, or has another twice, or other bytes");
    c->seen++;
    deliveries++;
    recordIn(deliveryTrips, t - p->at);
    if (!--p->left) {
        recordIn(lastTrips, t - p->at);
        publications++;
        completed++;
        batchTook = t - p->at;
    }
}

static void answered(struct connection *c, uint64_t t)
{
    int number = (int)(c - echoes);
    if (echoAnswered[number] == echoAsked[number])
        refuse("more echoes than were asked for");
    recordIn(echoTrips, t - echoSent[number][echoAnswered[number]++ % ECHO_RING]);
    echoCount++;
}

/* Take what has come on a connection. */
static void receive(struct connection *c)
{
    ssize_t got;
    size_t have = c->have, at = 0;
    struct frame f = {0};
    uint64_t t;
    memcpy(chunk, c->carry, have);
    got = recv(c->fd, chunk + have, CHUNK, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        refuse("the server closed a connection");
    t = now();
    have += (size_t)got;
    if (c->role == MEMBER)
        bytes += (uint64_t)got;
    while (at < have && findFrame(c->frames, chunk + at, have - at, &f)) {
        at += f.size;
        if (isControl(c, &f) || c->role == PUBLISHER)
            continue;
        if (c->role == MEMBER)
            delivered(c, &f, t);
        else
            answered(c, t);
    }
    c->have = have - at;
    if (c->have > c->room) {
        if (c->have > CHUNK)
            refuse("a frame that is too long");
        c->carry = room(c->carry, c->room = 2 * c->have);
    }
    memcpy(c->carry, chunk + at, c->have);
}

/* Read while it blocks, into the carry. */
static void readMore(struct connection *c)
{
    ssize_t got;
    if (c->room < c->have + 2048)
        c->carry = room(c->carry, c->room = 2 * c->have + 2048);
    got = recv(c->fd, c->carry + c->have, c->room - c->have, 0);
    if (got <= 0)
        refuse(got ? "no answer while connections are opened" : "the server closed a connection that was opened");
    c->have += (size_t)got;
}

static void consume(struct connection *c, size_t size)
{
    c->have -= size;
    memmove(c->carry, c->carry + size, c->have);
}

/* Wait for a message that begins like this. */
static void await(struct connection *c, const char *begin)
{
    struct frame f = {0};
    for (int found = 0; !found;) {
        while (!findFrame(c->frames, c->carry, c->have, &f))
            readMore(c);
        if (!isControl(c, &f)) {
            found = f.isCompressed || (f.length >= strlen(begin) && !memcmp(f.payload, begin, strlen(begin)));
            if (!found)
                refuse("another answer than was waited for, while connections are opened");
        }
        consume(c, f.size);
    }
}

static void dial(struct connection *c, enum role role, unsigned number)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}, from = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = PATIENCE};
    const char *path = wire == SOCKETIO ? "/socket.io/?EIO=4&transport=websocket" : wire == NCHAN ? "/member" : "/";
    char request[512];
    int on = 1, length;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / PER_ADDRESS);
    c->role = role;
    c->frames = wire == LENGTH ? PREFIXED : wire == NCHAN && role != MEMBER ? HTTP : WEBSOCKET;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&from, sizeof from) ||
        connect(c->fd, (struct sockaddr *)&to, sizeof to))
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (c->frames != WEBSOCKET)
        return;
    length = sprintf(request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, isDeflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        fail("send");
}

static void shakeHands(struct connection *c)
{
    const char *end;
    size_t size;
    if (c->frames != WEBSOCKET)
        return;
    while (!c->have || !(end = memmem(c->carry, c->have, "\r\n\r\n", 4)))
        readMore(c);
    size = (size_t)(end - (char *)c->carry) + 4;
    if (memcmp(c->carry, "HTTP/1.1 101", 12))
        refuse("the WebSocket handshake was refused");
    if (isDeflate && !memmem(c->carry, size, "permessage-deflate", 18))
        refuse("the server does not take permessage-deflate");
    consume(c, size);
    if (wire == SOCKETIO) {
        await(c, "0");
        sendText(c, "40", 2, 1);
    }
}

static void settle(struct connection *c)
{
    static const char plain[] = "{\"do\":\"join\"}", event[] = "42[\"join\",{\"do\":\"join\"}]";
    const char *join = wire == SOCKETIO ? event : plain;
    if (wire == SOCKETIO)
        await(c, "40");
    if (c->role == MEMBER && wire != NCHAN) {
        sendText(c, join, strlen(join), 1);
        await(c, join);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (c->role != MEMBER || c < connections + reading) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(c->role == MEMBER ? memberEpoll : echoEpoll, EPOLL_CTL_ADD, c->fd, &event))
            fail("epoll_ctl");
    }
}

/* Ask for an echo when it is time, and take those that have come, and what the publisher has. */
static void echoTurn(uint64_t t)
{
    static uint64_t nextEcho, turn;
    static const char request[] = "GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    struct epoll_event ready[ECHOES + 1];
    int n;
    if (echoEvery && t >= nextEcho) {
        int number = (int)(turn++ % ECHOES);
        struct connection *c = &echoes[number];
        nextEcho = t + echoEvery;
        if (echoAsked[number] - echoAnswered[number] < ECHO_RING) {
            echoSent[number][echoAsked[number]++ % ECHO_RING] = now();
            if (c->frames == HTTP && send(c->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1)
                fail("send");
            if (c->frames != HTTP && wire == SOCKETIO)
                sendText(c, "42[\"echo\",{\"do\":\"echo\"}]", 24, 1);
            else if (c->frames != HTTP)
                sendText(c, "{\"do\":\"echo\"}", 13, 1);
        }
    }
    n = epoll_wait(echoEpoll, ready, ECHOES + 1, 0);
    for (int i = 0; i < n; i++)
        receive(ready[i].data.ptr);
}

/* Take what has come for members, for so many milliseconds at most until the first of it; while others are opened, that
 * is pings. */
static void takeAll(int patience)
{
    struct epoll_event ready[READY];
    int n = epoll_wait(memberEpoll, ready, READY, patience);
    for (int i = 0; i < n; i++) {
        if (patience && i % ECHO_TURN == ECHO_TURN - 1)
            echoTurn(now());
        if (ready[i].data.ptr)
            receive(ready[i].data.ptr);
    }
}

static void openAll(struct connection *all, unsigned count, enum role role)
{
    for (unsigned from = 0; from < count; from += OPENING) {
        unsigned to = from + OPENING < count ? from + OPENING : count;
        for (unsigned i = from; i < to; i++)
            dial(&all[i], role, i);
        for (unsigned i = from; i < to; i++)
            shakeHands(&all[i]);
        for (unsigned i = from; i < to; i++)
            settle(&all[i]);
        takeAll(0);
    }
}

static void readSlowly(size_t size)
{
    for (struct connection *c = connections + reading; c < connections + members; c++) {
        ssize_t got = size && !c->isClosed ? recv(c->fd, chunk, size, 0) : -1;
        if (!got || (got < 0 && errno == ECONNRESET))
            c->isClosed = 1;
    }
}

static unsigned closedMembers(void)
{
    unsigned closed = 0;
    for (struct connection *c = connections + reading; c < connections + members; c++) {
        struct tcp_info info;
        socklen_t size = sizeof info;
        closed += c->isClosed || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) ||
                  info.tcpi_state != TCP_ESTABLISHED;
    }
    return closed;
}

static double cpuSeconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void report(double seconds, double cpu)
{
    printf("{\"messages\": %llu, \"publications\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"clientSeconds\": %.3f, "
           "\"closed\": %u, \"p50\": %.1f, \"p99\": %.1f, \"last50\": %.1f, \"last99\": %.1f, \"echo50\": %.1f, "
           "\"echo99\": %.1f}\n",
           (unsigned long long)deliveries, (unsigned long long)publications, (unsigned long long)bytes, seconds, cpu,
           closedMembers(), percentileOf(deliveryTrips, .5, deliveries), percentileOf(deliveryTrips, .99, deliveries),
           percentileOf(lastTrips, .5, publications), percentileOf(lastTrips, .99, publications),
           percentileOf(echoTrips, .5, echoCount), percentileOf(echoTrips, .99, echoCount));
}

static void forget(void)
{
    deliveries = publications = bytes = echoCount = 0;
    memset(deliveryTrips, 0, sizeof deliveryTrips);
    memset(lastTrips, 0, sizeof lastTrips);
    memset(echoTrips, 0, sizeof echoTrips);
}

static void run(unsigned once, unsigned flight, double rest, size_t slowBytes, double warmup, double seconds)
{
    uint64_t begin = now(), start = begin + (uint64_t)(warmup * 1e9), stop = 0;
    uint64_t t, slowAt = begin, batches = 0;
    double cpu = cpuSeconds();
    int measuring = 0;
    /* Until one has reached all, at least: a slow server may have begun it before. */
    while ((t = now()) < stop || !measuring || (!publications && t < stop + PATIENCE * 1000000000ull)) {
        if (!measuring && t >= start) {
            measuring = 1;
            forget();
            puts("measuring");
            fflush(stdout);
            begin = now();
            stop = begin + (uint64_t)(seconds * 1e9);
            cpu = cpuSeconds();
        }
        if (completed / once > batches) {
            batches = completed / once;
            nextAt = t + (uint64_t)((double)batchTook * rest);
        }
        while (t >= nextAt && published + once <= completed - completed % once + flight * once)
            for (unsigned i = 0; i < once; i++)
                publish(t);
        sendOut();
        if (t >= slowAt) {
            slowAt = t + SLOW_EVERY;
            readSlowly(slowBytes / 10);
        }
        echoTurn(t);
        takeAll(1);
    }
    report((double)(t - begin) / 1e9, cpuSeconds() - cpu);
}

int main(int argc, char **argv)
{
    struct epoll_event others = {.events = EPOLLIN, .data.ptr = NULL};
    if (argc != 13) {
        fprintf(stderr, "usage: groupload PORT WIRE MEMBERS SIZE ONCE FLIGHT REST SLOW SLOW_BYTES ECHOES "
                        "WARMUP_SECONDS SECONDS\n");
        return 2;
    }
    port = atoi(argv[1]);
    isDeflate = !!strstr(argv[2], ":deflate");
    while (strncmp(argv[2], WIRES[wire], strcspn(argv[2], ":")))
        if (++wire > NCHAN)
            refuse("an unknown wire");
    members = (unsigned)atoi(argv[3]);
    slow = (unsigned)atoi(argv[8]);
    unsigned once = (unsigned)atoi(argv[5]), flight = (unsigned)atoi(argv[6]);
    if (slow >= members || !once || !flight || once * flight > RING)
        refuse("there are to be members that are not slow, and 1 to 8192 publications under way");
    reading = members - slow;
    echoEvery = atoi(argv[10]) ? 1000000000u / (unsigned)atoi(argv[10]) : 0;
    shape((size_t)atol(argv[4]));
    memberEpoll = epoll_create1(EPOLL_CLOEXEC);
    echoEpoll = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(members, sizeof *connections);
    /* What comes for the others ends the wait for members. */
    if (memberEpoll < 0 || echoEpoll < 0 || !connections ||
        epoll_ctl(memberEpoll, EPOLL_CTL_ADD, echoEpoll, &others))
        fail("epoll_create1");
    openAll(connections, members, MEMBER);
    openAll(&publisher, 1, PUBLISHER);
    openAll(echoes, ECHOES, ECHO);
    run(once, flight, atof(argv[7]), (size_t)atol(argv[9]), atof(argv[11]), atof(argv[12]));
    fflush(stdout);
    sleep(LINGER);
    return 0;
}
