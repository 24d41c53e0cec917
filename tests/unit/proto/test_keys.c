/* Key files: made with their modes, read back, refused when they are anything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "proto/keys.h"
#include "tests/unit/common/scratch.h"

static mode_t mode_of(const char *directory, const char *name)
{
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static struct run_config config_of(const char *directory)
{
    struct run_config c;
    assert_int_equal(run_config_load(&c, NULL, NULL, NULL, 0, NULL), 0);
    snprintf(c.keys.directory, sizeof c.keys.directory, "%s", directory);
    return c;
}

static void test_pairs_are_made_and_read_back(void **state)
{
    const char *directory = *state;
    char public_key[NET_KEY_TEXT], worker_key[NET_KEY_TEXT];
    struct net_curve server, client;
    struct error e = {0};
    assert_int_equal(keys_create(directory, "parameter", public_key, &e), 0);
    assert_int_equal(keys_create(directory, "worker", worker_key, &e), 0);
    assert_int_equal(mode_of(directory, "parameter.key"), 0600);
    assert_int_equal(keys_create(directory, "parameter", worker_key, &e), ERR_STATE);
    assert_int_equal(keys_of_server(directory, SERVER_PARAMETER, &server, &e), 0);
    assert_string_equal(server.public_key, public_key);
    struct run_config c = config_of(directory);
    assert_int_equal(keys_of_client(&c, "worker", SERVER_PARAMETER, &client, &e), 0);
    assert_string_equal(client.server_key, public_key);
    assert_int_not_equal(strcmp(client.secret_key, server.secret_key), 0);
    keys_wipe(&client);
    assert_string_equal(client.secret_key, "");
}

static void test_no_keys_where_none_are_needed(void **state)
{
    struct net_curve k;
    struct run_config c = config_of("");
    assert_int_equal(keys_of_client(&c, "worker", SERVER_PARAMETER, &k, NULL), 0);
    assert_string_equal(k.secret_key, "");
    c = config_of(*state); /* an empty directory, but nobody is reached by TCP */
    strcpy(c.net.parameter, "ipc:///a");
    strcpy(c.net.parameter_publish, "ipc:///b");
    assert_int_equal(keys_of_client(&c, "worker", SERVER_PARAMETER, &k, NULL), 0);
    strcpy(c.net.parameter_publish, "tcp://a:1");
    assert_int_equal(keys_of_client(&c, "worker", SERVER_PARAMETER, &k, NULL), ERR_CONFIG);
}

static void test_other_files_are_no_keys(void **state)
{
    static const char *const texts[] = {"", "\n", "short", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7x",
                                        "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~"};
    char path[512], key[NET_KEY_TEXT];
    struct error e = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        scratch_write(state, "a.pub", texts[i], strlen(texts[i]), path);
        assert_int_equal(keys_read_public(path, key, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "a.pub"));
        assert_string_equal(key, "");
    }
    struct net_curve k;
    assert_int_equal(keys_of_server(*state, SERVER_PARAMETER, &k, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "parameter.key"));
}

/* A frozen server is not said to want keys. */
static void test_hints(void **state)
{
    const struct net_event cut = {.kind = NET_HANDSHAKE_CUT}, refused = {.kind = NET_KEY_REFUSED},
                           invalid = {.kind = NET_HANDSHAKE_INVALID};
    (void)state;
    assert_non_null(strstr(keys_hint(&cut, false), "does not answer"));
    assert_non_null(strstr(keys_hint(&invalid, false), "may want keys"));
    assert_non_null(strstr(keys_hint(&refused, true), "decant keygen --add"));
    assert_true(keys_hopeless(&refused) && keys_hopeless(&invalid) && !keys_hopeless(&cut));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hints),
        scratch_test(test_pairs_are_made_and_read_back),
        scratch_test(test_no_keys_where_none_are_needed),
        scratch_test(test_other_files_are_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
