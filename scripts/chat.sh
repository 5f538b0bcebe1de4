#!/usr/bin/env bash
# A terminal chat with a ChatSafe daemon: bash, curl and jq, nothing else.
#
# What is typed lives in shell variables only. It reaches curl and jq through pipes: never as an
# argument, which `ps` shows to everybody, and never through `<<<`, for which older shells write a
# temporary file. So there is no temporary file to remove.
set -u

usage() {
    cat <<'TEXT'
Usage: scripts/chat.sh [--stream] [--url URL]

  --stream   show the answer while it is made
  --url URL  the daemon's address (default: $CHATSAFE_URL, else http://127.0.0.1:8081)
  --help     this text

In the chat: `exit` or Ctrl-D leaves, `/reset` starts a new conversation.
A line with a role marker (`AI:`, `You:`) begins several lines; Ctrl-D ends them.
TEXT
}

url=${CHATSAFE_URL:-http://127.0.0.1:8081}
stream=false
while (($#)); do
    case $1 in
        --stream) stream=true ;;
        --url)
            (($# > 1)) || { echo 'Error: --url needs an address' >&2; exit 2; }
            url=$2
            shift
            ;;
        --url=*) url=${1#--url=} ;;
        -h | --help) usage; exit 0 ;;
        *) echo "Error: unknown argument: $1 (see --help)" >&2; exit 2 ;;
    esac
    shift
done
[[ $url == *://* ]] || url=http://$url
url=${url%/}
url=${url%/v1}
key=${CHATSAFE_API_KEY:-}
if [[ -n $key && ! $key =~ ^[A-Za-z0-9._~+/=-]+$ ]]; then
    echo 'Error: CHATSAFE_API_KEY holds a character that no key has' >&2
    exit 2
fi
for tool in curl jq; do
    command -v "$tool" >/dev/null || {
        echo "Error: chat.sh needs $tool. On Debian: apt install $tool" >&2
        exit 1
    }
done

# Options that must not stand in the argument list, and the rule that loopback needs no proxy.
curl_options() {
    printf 'silent\nnoproxy = "127.0.0.1,localhost,::1"\nconnect-timeout = 5\n'
    [[ -z $key ]] || printf 'header = "authorization: Bearer %s"\n' "$key"
}

post() { # the request body comes through stdin
    curl -q -K <(curl_options) --no-buffer -H 'content-type: application/json' \
        --data-binary @- "$url/v1/chat/completions"
}

# An answer is foreign text: control characters could move the cursor or retitle the window.
printable='def printable: explode
    | map(select((. >= 32 and (. < 127 or . > 159)) or . == 10 or . == 9)) | implode;'
unreachable="cannot reach the daemon at $url; is it running? Start it with scripts/start"

# Each of the two sets `answer`, or returns 1 after an "Error: " line.
answer_at_once() {
    local reply
    reply=$(printf '%s' "$1" | post)
    answer=$(printf '%s' "$reply" |
        jq -r "$printable"'.choices[0].message.content | strings | printable' 2>/dev/null)
    if [[ -n $answer ]]; then
        printf 'AI: %s\n\n' "$answer"
        return 0
    fi
    local reason
    reason=$(printf '%s' "$reply" | jq -r "$printable"'.error.message | strings | printable' \
        2>/dev/null)
    if [[ -z $reason ]]; then
        reason=$unreachable
        [[ -z $reply ]] || reason="the server at $url gave no answer"
    fi
    printf 'Error: %s\n\n' "$reason"
    return 1
}

# jq turns the stream into records that end with NUL: T and text, E and an error, D at the end.
# shellcheck disable=SC2016 # $-free on purpose: this is jq, not shell
records='
    if startswith("data: [DONE]") then "D"
    elif startswith("data: {") or startswith("{") then
        ltrimstr("data: ") | (fromjson? // {})
        | if .error then "E" + ((.error.message? // "the answer broke off") | printable)
          else (.choices[0]?.delta?.content? // empty) | select(. != "") | "T" + printable end
    else empty end
    | . + "\u0000"'

answer_as_it_comes() {
    local record ended=false reason=''
    answer=''
    while IFS= read -r -d '' record; do
        case $record in
            T*)
                [[ -n $answer ]] || printf 'AI: '
                printf '%s' "${record#T}"
                answer+=${record#T}
                ;;
            E*) reason=${record#E} ;;
            D) ended=true ;;
        esac
    done < <(printf '%s' "$1" | post | jq --unbuffered -Rj "$printable$records")
    [[ -z $answer ]] || printf '\n'
    if $ended && [[ -n $answer ]]; then
        printf '\n'
        return 0
    fi
    if [[ -z $reason ]]; then
        reason=$unreachable
        [[ -z $answer ]] || reason='the answer is incomplete: the connection broke off'
        ! $ended || reason='the model gave an empty answer'
    fi
    printf 'Error: %s\n\n' "$reason"
    return 1
}

version=$(curl -q -K <(curl_options) --max-time 5 "$url/version")
model=$(printf '%s' "$version" |
    jq -r "$printable"'.model_id | strings | printable' 2>/dev/null)
[[ -n $version ]] || model="unknown (no daemon answers at $url)"
printf 'ChatSafe, model: %s\n' "${model:-unknown}"
# The whole address, so that http://127.0.0.1.example.com is not taken for this computer.
here='^https?://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?(/.*)?$'
if [[ $url =~ $here ]]; then
    printf 'Nothing you type leaves this computer.\n'
else
    printf 'What you type goes to %s; whoever runs it can read it.\n' "$url"
fi
printf "Type 'exit' to quit, '/reset' for a new conversation.\n"
printf -- '--------------------------------------------------\n'

read_line() {
    if [[ -t 0 ]]; then
        IFS= read -e -r -p 'You: ' line
    else
        printf 'You: '
        IFS= read -r line
    fi
}

history='' # the turns so far, as JSON objects joined by commas
at_end=false
while ! $at_end; do
    line=''
    read_line || at_end=true
    [[ $line != exit ]] || { printf 'Goodbye!\n'; exit 0; }
    [[ $line =~ [^[:space:]] ]] || continue
    if [[ $line == /reset ]]; then
        history=''
        printf 'The conversation starts anew.\n\n'
        continue
    fi
    if [[ $line =~ (^|[[:space:]])(AI|You): ]]; then
        [[ ! -t 0 ]] || printf '(several lines; Ctrl-D ends them)\n'
        line+=$'\n'$(cat)
    fi
    turn="{\"role\":\"user\",\"content\":$(printf '%s' "$line" | jq -Rs .)}"
    body="{\"messages\":[${history:+$history,}$turn],\"stream\":$stream}"
    if $stream; then answer_as_it_comes "$body"; else answer_at_once "$body"; fi || continue
    reply_turn="{\"role\":\"assistant\",\"content\":$(printf '%s' "$answer" | jq -Rs .)}"
    history="${history:+$history,}$turn,$reply_turn"
done
printf '\nGoodbye!\n'
