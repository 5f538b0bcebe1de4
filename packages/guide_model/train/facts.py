"""What really exists in ChatSafe, for checking answers: commands, settings, endpoints.

Used on the fixed answers of the corpus and on what the trained model says. An answer that names
a command or a setting that is not here is wrong, however fluent it sounds.
"""

import re

_SUBCOMMANDS = (
    "serve chat run list ls ps show stop status doctor config completion --version --help COMMAND "
    "--json --url"
)
_CLI_FLAGS = "--json --url --help --version --model --origin --stream --config --log-level"
_REPL = "/help /bye /clear /model /system /set /show /retry /edit /stats /file /save /load /reset"
_PATHS = (
    "/v1/chat/completions /v1/models /models /healthz /health /version /metrics /v1/status "
    "/v1/models/load /v1/models/unload"
)
SETTINGS: dict[str, str] = {
    "server": "host port allow_remote api_key allowed_hosts allowed_origins max_connections "
    "max_body_bytes head_timeout_s body_timeout_s shutdown_grace_s stream_default strict "
    "system_fingerprint",
    "runtime": "model_dir context_window threads gpu_layers parallel batch_size keep_alive_s "
    "load_timeout_s stall_timeout_s prefill_timeout_s",
    "models": "registry_file default_model directory",
    "limits": "per_ip_per_minute max_concurrent_per_ip global_per_minute queue_size "
    "queue_timeout_s",
    "logging": "level",
}
KEYS = frozenset(f"{s}.{k}" for s, ks in SETTINGS.items() for k in ks.split())
FLAGS = frozenset("--" + k.replace("_", "-") for ks in SETTINGS.values() for k in ks.split())
REPL = frozenset(_REPL.split())
PATHS = frozenset(_PATHS.split())
SUBCOMMANDS = frozenset(_SUBCOMMANDS.split())
CLI_FLAGS = frozenset(_CLI_FLAGS.split())
_ROLE = re.compile(r"(?:^|\s)(AI|You|User|System|Assistant|Human):", re.I)


def complaints(answer: str) -> list[str]:
    """What is wrong with an answer; empty when nothing is."""
    found: list[str] = []
    if not answer.rstrip("`\"')").endswith((".", "!", "?")):
        found.append("does not end with a full stop")
    if "<|" in answer:
        found.append("holds <|")
    if _ROLE.search(answer):
        found.append("holds a role label")
    spans = re.findall(r"`([^`]+)`", answer)
    if answer.count("`") % 2:
        found.append("odd number of backticks")
    plain = re.sub(r"`[^`]*`", "", answer)
    if re.search(r"\bsystem\b", plain, re.I) or re.search(r"as an AI\b", plain):
        found.append("uses a word that answers avoid (system, as an AI)")
    for span in spans:
        found += [f"not in ChatSafe: {bad}" for bad in _unreal(span)]
    return found


def _unreal(span: str) -> list[str]:
    """Parts of a code span that name something which does not exist."""
    bad: list[str] = []
    words = span.split()
    if words[0] == "chatsafe" and len(words) > 1 and words[1] not in SUBCOMMANDS:
        bad.append(span)
    if words[0].startswith("scripts/") and words[0] not in (
        "scripts/start",
        "scripts/test",
        "scripts/chat.sh",
    ):
        bad.append(span)
    for section, name in re.findall(r"\b(server|runtime|models|limits|logging)\.(\w+)", span):
        if f"{section}.{name}" not in KEYS and name not in ("txt", "toml", "gguf"):
            bad.append(f"{section}.{name}")
    if words[0] in ("chatsafe", "chatsafe-server", "scripts/start") or words[0].startswith("--"):
        flags = (w.split("=")[0].rstrip(".,;") for w in words if w.startswith("--"))
        bad += [f for f in flags if f not in FLAGS | CLI_FLAGS]
    if re.fullmatch(r"/[a-z]+", words[0]) and words[0] not in REPL | PATHS:
        bad.append(words[0])
    for variable in re.findall(r"\bCHATSAFE_[A-Z_]+", span):
        known = {"CHATSAFE_URL", "CHATSAFE_CONFIG", "CHATSAFE_LLAMA_WHEELS"}
        known |= {"CHATSAFE_" + k.replace(".", "_").upper() for k in KEYS}
        if variable not in known:
            bad.append(variable)
    return bad
