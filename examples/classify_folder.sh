#!/bin/sh
# Say what every picture of a folder shows, with curl alone: one JSON object a line; what is refused, on the standard error.
#
#   examples/classify_folder.sh FOLDER [URL]         SIGHTLINE_KEY=… where the service wants a key
#
# curl asks again when the service is busy, after the time that its Retry-After names.
set -eu
folder=${1:?usage: $0 FOLDER [URL]} url=${2:-http://127.0.0.1:8000}
[ -d "$folder" ] || { echo "$0: $folder is no folder" >&2; exit 2; }
# A file, which curl empties before it asks again: on a pipe the refusal would stand before the answer.
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
trap 'exit 130' INT # without these some shells end without the line above
trap 'exit 143' TERM
failed=0
for picture in "$folder"/*; do
  [ -f "$picture" ] || continue
  # The body comes from a pipe of its own, and the name is quoted, so that no name can mean anything to curl.
  name=$(basename "$picture" | sed 's/[\\"]/\\&/g')
  : >"$answer"
  if curl --silent --show-error --fail-with-body --retry 5 --max-time 60 --output "$answer" \
    -F "file=@-;filename=\"$name\"" ${SIGHTLINE_KEY:+-H "Authorization: Bearer $SIGHTLINE_KEY"} \
    "$url/classify" <"$picture"; then
    cat "$answer"
    echo
  else
    echo "$picture: $(cat "$answer")" >&2
    failed=1
  fi
done
exit "$failed"
