/* The scripts. What follows the word before the cursor, in this order: a command; an option; a key after --set; a
 * choice that the usage line of the option lists ("--sort weight|nearest|index"); a file. */
#include "cli/completion.h"

static void write_names(const struct completion_command *commands, size_t n, FILE *f)
{
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%s", i ? " " : "", commands[i].name);
}

/* Inside single quotes. */
static void write_quoted(const char *text, FILE *f)
{
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fputc(*text, f);
}

/* Both shells run these through sh's own tools. $1: the program, $2: the command, $3: the option before the cursor. */
static const char sources[] =
    "_decant_options() { \"$@\" --help 2>/dev/null | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u; }\n"
    "_decant_choices() { \"$1\" \"$2\" --help 2>/dev/null | grep -oE -- \"$3 [a-z|]+\" | grep -F '|' | head -n 1 |\n"
    "    cut -d ' ' -f 2 | tr '|' '\\n'; }\n"
    "_decant_keys() { \"$1\" config 2>/dev/null |\n"
    "    awk -F ' = ' '/^\\[/ {gsub(/[][]/, \"\"); section = $0} / = / && !/^#/ {print section \".\" $1 \"=\"}'; }\n";

void completion_bash(const struct completion_command *commands, size_t n, FILE *f)
{
    fputs("# bash completion of decant: eval \"$(decant completion bash)\"\n", f);
    fputs(sources, f);
    fputs("_decant() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]} words=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ] || { [ \"$COMP_CWORD\" -eq 2 ] && [ \"$command\" = help ]; }; then\n"
          "        words='",
          f);
    write_names(commands, n, f);
    fputs("'\n"
          "    elif [ \"$command\" = completion ]; then\n"
          "        words='bash zsh'\n"
          "    elif [[ $word == -* ]]; then\n"
          "        words=$(_decant_options \"$program\" \"$command\")\n"
          "    elif [ \"$before\" = --set ]; then\n"
          "        words=$(_decant_keys \"$program\")\n"
          "        compopt -o nospace 2>/dev/null\n"
          "    elif [[ $before == --* ]]; then\n"
          "        words=$(_decant_choices \"$program\" \"$command\" \"$before\")\n"
          "    fi\n"
          "    [ -z \"$words\" ] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
          "}\n"
          "_decant_process() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]}\n"
          "    COMPREPLY=()\n"
          "    [[ $word != -* ]] || mapfile -t COMPREPLY < <(compgen -W \"$(_decant_options \"${COMP_WORDS[0]}\")\" -- "
          "\"$word\")\n"
          "}\n"
          "complete -o default -F _decant decant\n"
          "complete -o default -F _decant_process decant-parameter decant-prototype decant-worker\n",
          f);
}

void completion_zsh(const struct completion_command *commands, size_t n, FILE *f)
{
    fputs("#compdef decant\n# zsh completion of decant: eval \"$(decant completion zsh)\", after compinit\n", f);
    fputs(sources, f);
    fputs("_decant() {\n    local -a commands found\n    commands=(\n", f);
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "        '%s:", commands[i].name);
        write_quoted(commands[i].summary, f);
        fputs("'\n", f);
    }
    fputs("    )\n"
          "    local program=$words[1] command=$words[2] before=$words[CURRENT-1]\n"
          "    if (( CURRENT == 2 )) || [[ $CURRENT -eq 3 && $command == help ]]; then\n"
          "        _describe command commands\n"
          "        return\n"
          "    elif [[ $command == completion ]]; then\n"
          "        found=(bash zsh)\n"
          "    elif [[ $words[CURRENT] == -* ]]; then\n"
          "        found=(${(f)\"$(_decant_options $program $command)\"})\n"
          "    elif [[ $before == --set ]]; then\n"
          "        found=(${(f)\"$(_decant_keys $program)\"})\n"
          "        compadd -S '' -- $found\n"
          "        return\n"
          "    elif [[ $before == --* ]]; then\n"
          "        found=(${(f)\"$(_decant_choices $program $command $before)\"})\n"
          "    fi\n"
          "    if (( $#found )); then compadd -- $found; else _files; fi\n"
          "}\n"
          "if [[ $funcstack[1] == _decant ]]; then _decant \"$@\"; else compdef _decant decant; fi\n",
          f);
}
