# Sourced by the scripts beside it: makes the virtual environment once, and again when pyproject.toml has changed.
#
#   make_environment FOLDER EXTRAS
#
# leaves FOLDER with everything that the EXTRAS of pyproject.toml (comma-separated) need. The installed extras are
# remembered in a stamp, so that a start with nothing to do costs no pip. PYTHON chooses the interpreter.

# onnxruntime's official builds report to Microsoft unless told not to.
export ORT_DISABLE_TELEMETRY="${ORT_DISABLE_TELEMETRY-1}"

say() { printf '%s\n' "$*" >&2; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-python3 python python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  found="no ${PYTHON:-Python}"
  if command -v "${PYTHON:-python3}" >/dev/null 2>&1; then found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1); fi
  say "Sightline needs Python 3.11 or newer, and found $found. Install it, or name one: PYTHON=/path/to/python3.11 $0"
  exit 1
}

# Leaves in `environment` and `variant` which build of onnxruntime is meant, and where: each in a folder of its own, since
# all are the same Python module. VARIANT chooses it, as it does for the image; $1 is what is meant without it.
choose_variant() {
  variant=${VARIANT:-$1}
  case $variant in
    cpu) environment=.venv ;;
    gpu | cuda12) environment=.venv-$variant ;;
    *)
      say "VARIANT chooses the build of onnxruntime: cpu, gpu (CUDA 13) or cuda12; there is no $variant"
      exit 1
      ;;
  esac
}

# Whether each of the extras $1 (comma-separated) is among those of a stamp, $2 (joined by hyphens).
has_all() {
  for extra in $(printf '%s' "$1" | tr ',' ' '); do
    case "-$2-" in *"-$extra-"*) ;; *) return 1 ;; esac
  done
}

make_environment() {
  folder=$1 extras=$2
  stamp=$folder/.sightline-$(printf '%s' "$extras" | tr ',' '-')
  if [ -x "$folder/bin/python" ]; then
    for made in "$folder"/.sightline-*; do
      if has_all "$extras" "${made##*/.sightline-}" && cmp -s pyproject.toml "$made"; then
        return
      fi
    done
  fi
  if ! [ -x "$folder/bin/python" ] || ! is_new_enough "$folder/bin/python"; then
    python=$(find_python)
    say "making $folder with $("$python" --version) …"
    if ! "$python" -m venv --clear "$folder"; then
      say "$python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
      exit 1
    fi
  fi
  say "installing what is needed ($extras) into $folder …"
  # The build happens on a copy, so that nothing but the environment is written into the checkout.
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
  trap 'exit 130' INT # without these dash ends without its EXIT trap
  trap 'exit 143' TERM
  cp pyproject.toml README.md LICENSE "$build/"
  if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "sightline[$extras] @ file://$build"; then
    say "the installation failed: see pip's message above; nothing was started"
    exit 1
  fi
  cp pyproject.toml "$stamp"
  rm -rf "$build"
  trap - EXIT INT TERM
}
