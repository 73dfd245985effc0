"""``fflux complete``: a script by which a shell completes commands."""

import argparse

_DESCRIPTION = """\
Print a script by which bash or zsh completes verbs, options, their choices, bundled models and
names of files.
"""

_EPILOG = """\
example:
  eval "$(fflux complete bash)"     in ~/.bashrc
  eval "$(fflux complete zsh)"      in ~/.zshrc
  fflux complete bash > ~/.local/share/bash-completion/completions/fflux

The second form is faster: the script stays the same until fflux is updated. Exit status: 0 done,
2 error.
"""

_SCRIPT = """\
# completion of fflux, made by `fflux complete`
_fflux() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
    local verb="${{COMP_WORDS[1]}}" words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{verbs} --help --version" -- "$cur"))
        return
    fi
    case "$verb $prev" in
{choices}
    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur") $(compgen -f -- "$cur"))
        return
    fi
    case "$cur" in
    -*)
        case "$verb" in
{options}
        esac
        COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    *)
        COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}}
complete -o filenames -o bashdefault -F _fflux fflux
"""

_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"

_MODEL = ("model", "source")
"""Arguments that may be the name of a bundled model."""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("complete", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("shell", choices=["bash", "zsh"], help="which shell")


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    print((_ZSH if args.shell == "zsh" else "") + script(), end="")


def script() -> str:
    """For bash, and for zsh after its ``bashcompinit``."""
    from ase_fflux.cli.main import VERBS, parser_of
    from ase_fflux.formats.locate import bundled_models

    models, choices, options = " ".join(bundled_models()), [], []
    for verb in VERBS:
        long = []
        for action in parser_of(verb)._actions:
            named = [o for o in action.option_strings if o.startswith("--")]
            long += named
            words = " ".join(map(str, action.choices or ()))
            if action.dest == "model":
                words = models
            patterns = [f'"{verb} {o}"' for o in action.option_strings]
            if not patterns and (action.choices or action.dest in _MODEL):
                words = words or models
                patterns = [f'"{verb} {verb}"']  # the first argument
            if words and patterns:
                choices.append(f'    {"|".join(patterns)}) words="{words}" ;;')
        options.append(f'        {verb}) words="{" ".join(long)}" ;;')
    return _SCRIPT.format(
        verbs=" ".join(VERBS), choices="\n".join(choices), options="\n".join(options)
    )
