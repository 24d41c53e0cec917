/* decant keygen: options, and what to copy where. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "cli/command.h"
#include "cli/key_deploy.h"
#include "cli/key_ring.h"

enum { OWNERS_MAX = 256 };

static const char help[] =
    "example: decant keygen --out keys; decant keygen --out keys worker:gpu7\n\n"
    "usage: decant keygen [--out DIR] [--deploy TARGET] [ROLE[:NAME]]...\n"
    "       decant keygen [--out DIR] [--deploy TARGET] --add FILE.pub ROLE[:NAME]\n"
    "       decant keygen [--out DIR] --list\n"
    "       decant keygen [--out DIR] [--deploy TARGET] --revoke NAME\n\n"
    "Makes key pairs NAME.key (secret) and NAME.pub below DIR, and lists those of workers, clients and viewers in\n"
    "DIR/allowed, which both servers follow while they run. Existing files are never overwritten.\n\n"
    "  --out DIR        directory of keys (keys)\n"
    "  --deploy TARGET  afterwards bring TARGET/parameter, TARGET/prototype, TARGET/worker ... up to date: one "
    "directory\n"
    "                   a key, with what the process that has it needs and no more, to be mounted into its container "
    "or\n"
    "                   copied to its machine. Without any ROLE, keys that exist already are fine then\n"
    "  ROLE             parameter or prototype (the servers), worker, client (sends statistics only), viewer\n"
    "                   (looks only). Without any: parameter, prototype, worker and viewer\n"
    "  NAME             tells several of a role apart; the pair is then ROLE-NAME\n"
    "  --add FILE.pub   list a public key that was made elsewhere\n"
    "  --list           who is allowed\n"
    "  --revoke NAME    take that name (worker-gpu7) off the list: refused within seconds\n";

struct keygen_line {
    const char *directory, *deploy, *add, *revoke; /* NULL when not asked for, but for directory */
    bool list;
    struct key_owner owners[OWNERS_MAX];
    size_t count;
};

static int parse_owners(struct keygen_line *line, int argc, char **argv)
{
    struct error e = {0};
    for (; optind < argc; optind++) {
        if (key_owner_parse(argv[optind], &line->owners[line->count++], &e) != 0)
            return command_usage("keygen", "%s", e.text);
    }
    return -1;
}

static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                        {"add", required_argument, NULL, 'a'},
                                        {"list", no_argument, NULL, 'l'},
                                        {"revoke", required_argument, NULL, 'r'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"deploy", required_argument, NULL, 'd'},
                                        {NULL, 0, NULL, 0}};

static int take_option(int option, void *arg)
{
    struct keygen_line *line = arg;
    if (option == 'o')
        line->directory = optarg;
    else if (option == 'd')
        line->deploy = optarg;
    else if (option == 'a')
        line->add = optarg;
    else if (option == 'l')
        line->list = true;
    else if (option == 'r')
        line->revoke = optarg;
    return -1;
}

static const struct command_options command = {
    .name = "keygen", .help = help, .options = options, .take = take_option, .arguments_max = OWNERS_MAX};

/* -1 to go on, else the exit code. */
static int parse(struct keygen_line *line, int argc, char **argv)
{
    int code = command_take_options(&command, argc, argv, line);
    if (code >= 0)
        return code;
    if ((line->add != NULL) + (line->revoke != NULL) + line->list > 1)
        return command_usage("keygen", "give one of --add, --list and --revoke");
    code = parse_owners(line, argc, argv);
    if (code < 0 && line->add && (line->count != 1 || line->owners[0].role == ROLE_NONE))
        return command_usage("keygen", "--add %s: expected one ROLE[:NAME], of worker, client or viewer", line->add);
    if (code < 0 && line->count > 0 && (line->list || line->revoke))
        return command_usage("keygen", "--list and --revoke take no ROLE");
    return code;
}

static int list(const char *directory, struct error *e)
{
    struct allow_list l;
    int rc = key_ring_read(directory, &l, e);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < l.count; i++)
        printf("%-8s %s %s\n", role_name(l.entries[i].role), l.entries[i].key, l.entries[i].name);
    allow_list_fini(&l);
    return 0;
}

static void print_made(const struct keygen_line *line)
{
    const char *d = line->directory;
    for (size_t i = 0; i < line->count; i++) {
        const struct key_owner *o = &line->owners[i];
        const char *others = o->role == ROLE_NONE ? "allowed" : "parameter.pub, prototype.pub";
        printf("%s/%s.key, %s/%s.pub: its machine needs %s.key (secret, mode 0600) and %s\n", d, o->name, d, o->name,
               o->name, others);
        if (o->role != ROLE_NONE && strcmp(o->name, o->role == ROLE_WORKER ? "worker" : "viewer") != 0)
            printf("    and keys.name = %s\n", o->name);
    }
    if (line->deploy)
        printf("Each has what it needs below %s, under its name: mount or copy that, and set keys.directory.\n",
               line->deploy);
    else
        printf("Processes find them with keys.directory = %s, or wherever the copies are.\n", d);
}

/* A deployment asks each time that it starts, and goes on with the keys that it has. */
static void take_default_owners(struct keygen_line *line)
{
    static const char *const names[] = {"parameter", "prototype", "worker", "viewer"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct key_owner *owner = &line->owners[line->count];
        (void)key_owner_parse(names[i], owner, NULL);
        if (!line->deploy || !key_ring_has(line->directory, owner))
            line->count++;
    }
}

static int generate(struct keygen_line *line, struct error *e)
{
    if (line->count == 0)
        take_default_owners(line);
    if (line->count == 0)
        return 0;
    int rc = key_ring_generate(line->directory, line->owners, line->count, e);
    if (rc == 0)
        print_made(line);
    return rc;
}

static int revoke_name(const struct keygen_line *line, struct error *e)
{
    int rc = key_ring_revoke(line->directory, line->revoke, e);
    if (rc == 0)
        printf("revoked %s: servers that read %s/allowed refuse it within about a second\n", line->revoke,
               line->directory);
    return rc;
}

static int add_key(const struct keygen_line *line, struct error *e)
{
    const struct key_owner *o = &line->owners[0];
    int rc = key_ring_add(line->directory, line->add, o, e);
    if (rc == 0)
        printf("added %s as %s: servers that read %s/allowed let it in within about a second\n", line->add, o->name,
               line->directory);
    return rc;
}

static int change(struct keygen_line *line, struct error *e)
{
    if (line->revoke)
        return revoke_name(line, e);
    return line->add ? add_key(line, e) : generate(line, e);
}

static int run(struct keygen_line *line, struct error *e)
{
    if (line->list)
        return list(line->directory, e);
    int rc = change(line, e);
    return rc == 0 && line->deploy ? key_deploy(line->directory, line->deploy, e) : rc;
}

int command_keygen(int argc, char **argv)
{
    struct keygen_line line = {.directory = "keys"};
    struct error e = {0};
    int code = parse(&line, argc, argv);
    if (code >= 0)
        return code;
    return run(&line, &e) == 0 ? COMMAND_DONE : command_failed("keygen", &e);
}
