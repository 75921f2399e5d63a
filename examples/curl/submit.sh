#!/bin/sh
# Submits a task with curl and waits for its recorded end.
#
# Needs curl and a platform on this machine (`npm start`). Run it in the folder where that was started, or set
# DATAMCP_URL and DATAMCP_API_KEY. It defines the agent "curl-echo" the first time and uses it afterwards.
set -eu

url=${DATAMCP_URL:-http://127.0.0.1:8002}
key=${DATAMCP_API_KEY:-$(cat .datamcp/admin.key)}

# The key goes in by standard input: on the command line everybody on this machine could read it.
api() {
  printf 'header = "Authorization: Bearer %s"\n' "$key" |
    curl --config - --silent --show-error --header 'Content-Type: application/json' "$@"
}

# An agent is defined once. A second time answers 409 (name-taken), which is fine here.
api --output /dev/null "$url/api/v1/agents" --data '{"name": "curl-echo", "type": "echo"}'

# 202 means: committed, and it will reach exactly one recorded end. Sent again with the same Idempotency-Key it
# answers with the same task.
accepted=$(api --fail-with-body "$url/api/v1/tasks" \
  --header "Idempotency-Key: curl-example-$$-$(date +%s)" \
  --data '{"agent": "curl-echo", "type": "echo", "payload": {"hello": "world", "sleep_ms": 500}}')
echo "accepted: $accepted"

id=$(printf '%s' "$accepted" | sed -n 's/.*"id" *: *"\([0-9a-f-]\{36\}\)".*/\1/p' | head -n 1)

# `wait` holds the answer until the task has ended, at most 60 s.
echo "ended:    $(api --fail-with-body "$url/api/v1/tasks/$id?wait=30s")"

# Every change was recorded: number, type, time.
echo "events:   $(api --fail-with-body "$url/api/v1/tasks/$id/events")"
