# Written by selfhost render: asks, and fails unless a real answer comes.
set -eu
export URL="http://$HOST:$PORT$REQUEST_PATH"
if command -v python3 >/dev/null 2>&1; then
  exec python3 -c '
import json, os, sys, urllib.request
head = {"Content-Type": "application/json"}
if os.environ.get("KEY"):
    head["Authorization"] = "Bearer " + os.environ["KEY"]
request = urllib.request.Request(os.environ["URL"], os.environ["BODY"].encode(), head)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(request, timeout=570) as got:
        answer = json.load(got)
except urllib.error.HTTPError as error:
    sys.exit("HTTP %d: %s" % (error.code, error.read(500).decode("utf-8", "replace")))
found = answer[0] if isinstance(answer, list) else answer
for word in os.environ["ANSWER"].split("."):
    found = found[int(word)] if word.isdigit() else found[word]
if not found:
    sys.exit("An empty answer: " + json.dumps(answer)[:500])
print(json.dumps(found)[:200])
'
fi
if command -v curl >/dev/null 2>&1; then
  got=`{
    echo 'header = "Content-Type: application/json"'
    if [ -n "${KEY:-}" ]; then echo "header = \"Authorization: Bearer $KEY\""; fi
  } | curl -sS --noproxy '*' --fail-with-body --max-time 570 --config - --data-raw "$BODY" "$URL"`
else
  got=`exec bash -c '
exec 3<>"/dev/tcp/$HOST/$PORT"
LC_ALL=C
{
  printf "POST %s HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\n" "$REQUEST_PATH" "$HOST"
  if [ -n "${KEY:-}" ]; then printf "Authorization: Bearer %s\r\n" "$KEY"; fi
  printf "Content-Length: %s\r\n\r\n%s" "${#BODY}" "$BODY"
} >&3
cat <&3
'`
  case "$got" in
    *" 200 "*) ;;
    *) echo "$got"; exit 1 ;;
  esac
fi
word="${ANSWER##*.}"
echo "$got" | tail -c 500
case "$got" in
  *"\"$word\":\"\""* | *"\"$word\": \"\""* | *"\"$word\":[]"*) echo "An empty answer."; exit 1 ;;
  *"\"$word\":"*) ;;
  *) echo "No $word in the answer."; exit 1 ;;
esac
