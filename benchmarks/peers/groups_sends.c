/* The floor: what a broadcast costs if nothing is done for a member but one send.
 *
 *   groups_sends PORT
 *
 * One thread with epoll, WebSocket without compression, frames made once for all members; see ../groupload.c for what
 * is sent. It takes the one key that groupload has, and messages that come in one piece with their head or follow it
 * within a connection's buffer. A member whose socket is full misses what does not fit, and is closed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (512 * 1024)    /* bytes that were read and not handled yet */
#define MOST 200000          /* descriptors */

struct connection {
    int fd, isOpen;
    size_t have;
    unsigned char *data;
};

static struct connection *members[MOST];
static int count;

static void end(struct connection *c)
{
    for (int i = 0; i < count; i++)
        if (members[i] == c) {
            members[i] = members[--count];
            break;
        }
    close(c->fd);
    free(c->data);
    free(c);
}

static void broadcast(const unsigned char *frame, size_t size)
{
    for (int i = count - 1; i >= 0; i--)
        if (send(members[i]->fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
            shutdown(members[i]->fd, SHUT_RDWR); /* its end comes by epoll */
}

/* Answer a message whose payload is unmasked, behind the room for its head. */
static void answer(struct connection *c, unsigned char *payload, size_t size)
{
    unsigned char *frame = payload - (size < 126 ? 2 : size < 65536 ? 4 : 10);
    static const char join[] = "{\"do\":\"join\"", pub[] = "{\"do\":\"pub\"";
    frame[0] = 0x81;
    frame[1] = (unsigned char)(size < 126 ? size : size < 65536 ? 126 : 127);
    for (unsigned char *at = payload - 1, *first = frame + 2; at >= first; at--)
        *at = (unsigned char)((uint64_t)size >> 8 * (payload - 1 - at));
    if (size > sizeof pub && !memcmp(payload, pub, sizeof pub - 1)) {
        broadcast(frame, (size_t)(payload + size - frame));
        return;
    }
    if (size > sizeof join - 1 && !memcmp(payload, join, sizeof join - 1) && count < MOST)
        members[count++] = c;
    if (send(c->fd, frame, (size_t)(payload + size - frame), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        shutdown(c->fd, SHUT_RDWR);
}

/* Handle a message, and return its size; 0: there is no whole one. */
static size_t handle(struct connection *c, unsigned char *at, size_t have)
{
    size_t head = 2, size;
    if (!c->isOpen) {
        static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        unsigned char *found = memmem(at, have, "\r\n\r\n", 4);
        if (!found)
            return 0;
        c->isOpen = 1;
        if (send(c->fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0)
            shutdown(c->fd, SHUT_RDWR);
        return (size_t)(found + 4 - at);
    }
    if (have < 2)
        return 0;
    size = at[1] & 127;
    if (size > 125) {
        size_t more = size == 126 ? 2 : 8;
        if (have < head + more)
            return 0;
        for (size = 0; more; more--)
            size = size << 8 | at[head++];
    }
    if (have < head + 4 + size)
        return 0;
    for (size_t i = 0; i < size; i++)
        at[head + 4 + i] ^= at[head + (i & 3)];
    answer(c, at + head + 4, size);
    return head + 4 + size;
}

static void receive(struct connection *c)
{
    size_t at = 0, took;
    ssize_t got;
    if (!c->data && !(c->data = malloc(ROOM)))
        exit(1);
    got = recv(c->fd, c->data + c->have, ROOM - c->have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end(c);
        return;
    }
    c->have += (size_t)got;
    while ((took = handle(c, c->data + at, c->have - at)))
        at += took;
    c->have -= at;
    memmove(c->data, c->data + at, c->have);
    if (!c->have) {
        /* Members send nothing more. */
        free(c->data);
        c->data = NULL;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0))};
    struct epoll_event ready[256], event = {.events = EPOLLIN};
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c) {
                receive(c);
            } else if ((c = calloc(1, sizeof *c)) && (c->fd = accept(listener, NULL, NULL)) >= 0) {
                setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event.data.ptr = c;
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
            }
        }
    }
}
