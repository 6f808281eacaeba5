#!/bin/sh
# Say what every picture of a folder shows, with curl alone: one JSON object a line, problems too.
#
#   examples/classify_folder.sh FOLDER [URL]         SIGHTLINE_KEY=… where the service wants a key
#
# curl asks again when the service is busy, after the time that its Retry-After names.
set -eu
folder=${1:?usage: $0 FOLDER [URL]} url=${2:-http://127.0.0.1:8000}
[ -d "$folder" ] || { echo "$0: $folder is no folder" >&2; exit 2; }
failed=0
for picture in "$folder"/*; do
  [ -f "$picture" ] || continue
  # The body comes from a pipe of its own, so that no name can mean anything to curl.
  if ! curl --silent --show-error --retry 5 --max-time 60 --data-binary @- \
    -H 'Content-Type: application/octet-stream' ${SIGHTLINE_KEY:+-H "Authorization: Bearer $SIGHTLINE_KEY"} \
    --write-out '\n' "$url/classify" <"$picture"; then
    failed=1
  fi
done
exit "$failed"
