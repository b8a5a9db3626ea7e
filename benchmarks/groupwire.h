/* What groupload sends and finds: publications, and the frames that they are in. */
#include <arpa/inet.h>
#include <string.h>

#include "roundtrips.h"

#define FIRST 1000000000u        /* the number of the first publication: all have ten digits */
#define POOL 65536               /* bytes of text that publications take theirs from */
#define EDGE 64                  /* bytes that are in a publication beside its text, at most */

enum wire { WS, LENGTH, SOCKETIO, NCHAN };
enum frames { WEBSOCKET, PREFIXED, HTTP };

struct frame {
    size_t size;                /* with its head */
    const unsigned char *payload;
    size_t length;
    int opcode, isCompressed;
};

static enum wire wire;
static int isDeflate;            /* permessage-deflate is offered, and has to be taken */
static char text[2 * POOL], head[EDGE], tail[EDGE];
static size_t headSize, tailSize, textSize, publicationSize;

static void refuse(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Words in an order that does not repeat itself: what compressors find in texts, about. */
static void writeText(void)
{
    char words[256][10];
    uint32_t random = 1;
    for (int word = 0; word < 256; word++) {
        int letters;
        random = random * 1664525u + 1013904223u;
        letters = 2 + (int)(random >> 24) % 7;
        for (int at = 0; at < letters; at++) {
            random = random * 1664525u + 1013904223u;
            words[word][at] = (char)('a' + (random >> 24) % 26);
        }
        words[word][letters] = 0;
    }
    for (size_t at = 0; at < sizeof text;) {
        random = random * 1664525u + 1013904223u;
        for (const char *word = words[random >> 24]; *word && at < sizeof text; word++)
            text[at++] = *word;
        if (at < sizeof text)
            text[at++] = ' ';
    }
}

static void shape(size_t size)
{
    int isEvent = wire == SOCKETIO;
    headSize = (size_t)sprintf(head, "%s{\"do\":\"pub\",\"seq\":", isEvent ? "42[\"pub\"," : "");
    tailSize = (size_t)sprintf(tail, "\"}%s", isEvent ? "]" : "");
    publicationSize = size + (isEvent ? 10 : 0);
    if (size < EDGE || size > POOL)
        refuse("a publication has 64 to 65536 bytes");
    textSize = publicationSize - headSize - 10 - 9 - tailSize;
    writeText();
}

static const char *textOf(uint64_t k)
{
    return text + k * 97 % POOL;
}

static void writePublication(unsigned char *at, uint64_t k)
{
    char digits[32];
    memcpy(at, head, headSize);
    sprintf(digits, "%llu,\"text\":\"", (unsigned long long)(FIRST + k));
    memcpy(at + headSize, digits, 19);
    memcpy(at + headSize + 19, textOf(k), textSize);
    memcpy(at + headSize + 19 + textSize, tail, tailSize);
}

static int isPublication(const unsigned char *at, size_t size, uint64_t k)
{
    char digits[32];
    sprintf(digits, "%llu,\"text\":\"", (unsigned long long)(FIRST + k));
    return size == publicationSize && !memcmp(at, head, headSize) && !memcmp(at + headSize, digits, 19) &&
           !memcmp(at + headSize + 19, textOf(k), textSize) && !memcmp(at + size - tailSize, tail, tailSize);
}

/* Frame what stands at to + 14, and return where the frame begins; it ends where the payload does. */
static unsigned char *framed(enum frames frames, unsigned char *to, size_t size, int opcode)
{
    unsigned char *payload = to + 14, *at;
    if (frames == PREFIXED) {
        uint32_t length = htonl((uint32_t)size);
        at = payload - 4;
        memcpy(at, &length, 4);
        return at;
    }
    at = payload - (size < 126 ? 6 : size < 65536 ? 8 : 14);
    at[0] = (unsigned char)(0x80 | opcode);
    at[1] = (unsigned char)(0x80 | (size < 126 ? size : size < 65536 ? 126 : 127));
    for (int byte = size < 126 ? 0 : size < 65536 ? 2 : 8, i = byte; i; i--)
        at[2 + byte - i] = (unsigned char)((uint64_t)size >> 8 * (i - 1));
    memcpy(payload - 4, "\x11\x22\x33\x44", 4);
    for (size_t i = 0; i < size; i++)
        payload[i] ^= payload[-4 + (int)(i & 3)];
    return at;
}

/* Find the frame that data begins with; 0: the rest of it is to come. */
static int findFrame(enum frames frames, const unsigned char *data, size_t have, struct frame *f)
{
    size_t at = 2;
    if (frames == HTTP) {
        const char *end = memmem(data, have, "\r\n\r\n", 4), *length;
        if (!end)
            return 0;
        at = (size_t)(end - (const char *)data) + 4;
        length = memmem(data, at, "Content-Length: ", 16);
        if (memcmp(data, "HTTP/1.1 20", 11) || !length)
            refuse("a request was not answered with 2xx and a length");
        f->length = strtoul(length + 16, NULL, 10);
        f->opcode = 1;
    } else if (frames == PREFIXED) {
        if (have < (at = 4))
            return 0;
        f->length = (size_t)data[0] << 24 | (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];
        f->opcode = 1;
    } else {
        if (have < 2)
            return 0;
        f->opcode = data[0] & 15;
        f->isCompressed = data[0] >> 6 & 1;
        f->length = data[1];
        if (!(data[0] & 0x80) || data[1] & 0x80)
            refuse("a frame of a WebSocket that is masked, or a part of a message");
        if (f->length > 125) {
            size_t more = f->length == 126 ? 2 : 8;
            if (have < 2 + more)
                return 0;
            for (f->length = 0; more; more--)
                f->length = f->length << 8 | data[at++];
        }
    }
    f->payload = data + at;
    f->size = at + f->length;
    return f->size <= have;
}
