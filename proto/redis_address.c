/* A parser that goes from left to right. URLs carry passwords, so no message repeats any part of one. */
#include "proto/redis_address.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "proto/run_config.h"

#define EXPECTED "expected HOST:PORT, the path of a unix socket, redis://[USER:PASSWORD@]HOST:PORT/DB or unix://PATH"

struct piece { /* of the text; not NUL-terminated */
    const char *text;
    size_t size;
};

static struct piece piece_of(const char *from, const char *to)
{
    return (struct piece){from, (size_t)(to - from)};
}

static bool piece_is(struct piece p, const char *word)
{
    return p.size == strlen(word) && memcmp(p.text, word, p.size) == 0;
}

/* ---- parts ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded into out. False when it does not fit, is badly encoded, or would hold a NUL. */
static bool decode(struct piece p, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < p.size; i++) {
        int c = (unsigned char)p.text[i];
        if (c == '%') {
            int high = i + 2 < p.size ? hex_digit(p.text[i + 1]) : -1, low = high >= 0 ? hex_digit(p.text[i + 2]) : -1;
            if (low < 0)
                return false;
            c = 16 * high + low;
            i += 2;
        }
        if (c == '\0' || n + 1 >= size)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

/* Digits alone: no sign, no blank. */
static bool number(struct piece p, int64_t min, int64_t max, int64_t *out)
{
    int64_t value = 0;
    if (p.size == 0 || p.size > 9)
        return false;
    for (size_t i = 0; i < p.size; i++) {
        if (p.text[i] < '0' || p.text[i] > '9')
            return false;
        value = 10 * value + (p.text[i] - '0');
    }
    *out = value;
    return value >= min && value <= max;
}

static bool ipv6(const char *text)
{
    char plain[REDIS_HOST_MAX];
    struct in6_addr parsed;
    snprintf(plain, sizeof plain, "%s", text);
    plain[strcspn(plain, "%")] = '\0'; /* the zone of fe80::1%eth0 */
    return inet_pton(AF_INET6, plain, &parsed) == 1;
}

/* What a name or an address may consist of; whether it is one is for the resolver to say. */
static bool take_host(struct piece p, bool brackets, char out[REDIS_HOST_MAX])
{
    char host[REDIS_HOST_MAX];
    if (p.size >= sizeof host)
        return false;
    for (size_t i = 0; i < p.size; i++)
        if (p.text[i] <= ' ' || p.text[i] == 0x7f || strchr("/?#@[]\"'\\;", p.text[i]) != NULL)
            return false;
    memcpy(host, p.text, p.size);
    host[p.size] = '\0';
    if (brackets ? !ipv6(host) : memchr(host, ':', p.size) != NULL && !ipv6(host))
        return false;
    snprintf(out, REDIS_HOST_MAX, "%s", p.size > 0 ? host : "127.0.0.1");
    return true;
}

/* "HOST", "HOST:PORT", "[IPV6]:PORT", "IPV6" or nothing. */
static bool take_place(struct piece p, struct redis_address *out)
{
    const char *end = p.text + p.size, *close = p.size > 0 && p.text[0] == '[' ? memchr(p.text, ']', p.size) : NULL;
    if (close != NULL) {
        bool port = close + 1 < end;
        return take_host(piece_of(p.text + 1, close), true, out->host) &&
               (!port || (close[1] == ':' && number(piece_of(close + 2, end), 1, 65535, &out->port)));
    }
    const char *colon = memchr(p.text, ':', p.size);
    if (colon == NULL || memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL)
        return take_host(p, false, out->host);
    return take_host(piece_of(p.text, colon), false, out->host) &&
           number(piece_of(colon + 1, end), 1, 65535, &out->port);
}

/* "USER:PASSWORD", ":PASSWORD" or "USER", whose password then comes from elsewhere. */
static bool take_login(struct piece p, struct redis_login *out)
{
    const char *end = p.text + p.size, *colon = memchr(p.text, ':', p.size);
    if (!decode(piece_of(p.text, colon ? colon : end), out->user, sizeof out->user))
        return false;
    return colon == NULL || decode(piece_of(colon + 1, end), out->password, sizeof out->password);
}

static bool take_option(struct piece name, struct piece value, struct redis_address *out)
{
    if (piece_is(name, "db"))
        return number(value, 0, REDIS_DB_MAX, &out->db);
    if (piece_is(name, "username") || piece_is(name, "user"))
        return decode(value, out->login.user, sizeof out->login.user);
    return piece_is(name, "password") && decode(value, out->login.password, sizeof out->login.password);
}

/* "db=N&password=P" */
static bool take_options(const char *p, struct redis_address *out)
{
    while (*p != '\0') {
        const char *end = p + strcspn(p, "&"), *equals = memchr(p, '=', (size_t)(end - p));
        if (equals == NULL || !take_option(piece_of(p, equals), piece_of(equals + 1, end), out))
            return false;
        p = end + (*end == '&');
    }
    return true;
}

/* ---- whole texts ---- */

/* What follows "unix://" or "redis://". */
static const char *take_url(const char *p, bool socket, struct redis_address *out)
{
    const char *end = p + strcspn(p, "/?#"), *at = memrchr(p, '@', (size_t)(end - p));
    if (at != NULL && !take_login(piece_of(p, at), &out->login))
        return "its user or password is too long or badly percent-encoded";
    p = at ? at + 1 : p;
    if (!socket && !take_place(piece_of(p, end), out))
        return "its host or port is none (write '@', ':', '/', '?' and '#' of a password as %40, %3A, %2F, %3F and "
               "%23)";
    if (socket && p != end)
        return "unix:// is followed by an absolute path, with three slashes in all";
    const char *query = end + strcspn(end, "?#");
    if (socket && (*end != '/' || !decode(piece_of(end, query), out->host, sizeof out->host)))
        return "its path is not absolute, too long, or badly percent-encoded";
    struct piece db = piece_of(end + (*end == '/'), query);
    if (!socket && db.size > 0 && !number(db, 0, REDIS_DB_MAX, &out->db))
        return "after the host comes the number of a database";
    if (*query == '#' || (*query == '?' && !take_options(query + 1, out)))
        return "its options may be db, username and password";
    return NULL;
}

static int parse_url(const char *text, size_t scheme, struct redis_address *out, struct error *e)
{
    struct piece name = {text, scheme};
    struct redis_address a = *out;
    a.login = (struct redis_login){0};
    bool socket = piece_is(name, "unix");
    if (piece_is(name, "rediss"))
        return error_set(
            e, ERR_CONFIG,
            "rediss://: there is no TLS to Redis here (hiredis of Debian 12 has none); run a tunnel beside "
            "it, such as stunnel with client = yes, accept = 127.0.0.1:6380 and connect = HOST:PORT, and "
            "give redis://127.0.0.1:6380");
    if (!socket && !piece_is(name, "redis"))
        return error_set(e, ERR_CONFIG, "a URL of a Redis begins with redis:// or unix://");
    const char *wrong = take_url(text + scheme + 3, socket, &a);
    if (wrong != NULL) {
        redis_address_wipe(&a);
        return error_set(e, ERR_CONFIG, "the URL of the Redis: %s", wrong);
    }
    if (a.login.user[0] == '\0' && a.login.password[0] == '\0')
        a.login = out->login;
    else if (a.login.password[0] == '\0')
        memcpy(a.login.password, out->login.password, sizeof a.login.password);
    *out = a;
    redis_login_wipe(&a.login);
    return 0;
}

int redis_address_parse(const char *text, struct redis_address *out, struct error *e)
{
    struct redis_address a = *out;
    const char *scheme = strstr(text, "://");
    if (scheme != NULL)
        return parse_url(text, (size_t)(scheme - text), out, e);
    if (strchr(text, '@') != NULL)
        return error_set(e, ERR_CONFIG, "a Redis with a login is written redis://USER:PASSWORD@HOST:PORT");
    bool socket = text[0] == '/';
    bool ok =
        socket ? strlen(text) < sizeof a.host : text[0] != '\0' && take_place((struct piece){text, strlen(text)}, &a);
    if (!ok)
        return error_set(e, ERR_CONFIG, "'%.80s': " EXPECTED, text);
    if (socket)
        snprintf(a.host, sizeof a.host, "%s", text);
    *out = a;
    redis_login_wipe(&a.login);
    return 0;
}

int redis_address_configured(const struct run_config *c, struct redis_address *out, struct error *e)
{
    *out = (struct redis_address){.port = c->redis.port, .db = c->redis.db};
    size_t length = strlen(c->redis.host);
    bool brackets = length >= 2 && c->redis.host[0] == '[' && c->redis.host[length - 1] == ']';
    snprintf(out->host, sizeof out->host, "%.*s", (int)length - 2 * brackets, c->redis.host + brackets);
    return redis_login_read(c, &out->login, e);
}

void redis_address_wipe(struct redis_address *a)
{
    redis_login_wipe(&a->login);
}

const char *redis_address_text(const struct redis_address *a, char out[REDIS_ADDRESS_TEXT_MAX])
{
    bool brackets = strchr(a->host, ':') != NULL;
    if (a->host[0] == '/')
        snprintf(out, REDIS_ADDRESS_TEXT_MAX, "%s", a->host);
    else
        snprintf(out, REDIS_ADDRESS_TEXT_MAX, brackets ? "[%s]:%" PRId64 : "%s:%" PRId64, a->host, a->port);
    return out;
}

void redis_address_hide(char *argument)
{
    char *url = strstr(argument, "://"), *at = url ? strrchr(url, '@') : NULL, *query = url ? strchr(url, '?') : NULL;
    for (char *p = url ? url + 3 : NULL; at != NULL && p < at; p++)
        *p = '*';
    for (char *p = query; p != NULL && *p != '\0'; p++)
        *p = '*';
}
