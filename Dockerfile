# syntax=docker/dockerfile:1
# The serving image: Python, onnxruntime with what CUDA needs from the package index, the service, the models.
# No torch, no compiler. VARIANT chooses the build of onnxruntime: gpu (CUDA 13, default), cuda12, or cpu.
FROM python:3.11-slim-bookworm AS build
ARG VARIANT=gpu
WORKDIR /build
RUN case "$VARIANT $(uname -m)" in \
    "cuda12 x86_64") ;; \
    "cuda12 "*) echo "VARIANT=cuda12 is for x86-64 alone: onnxruntime-gpu 1.26.0 has no wheel for $(uname -m). Take VARIANT=gpu (CUDA 13) or cpu." >&2; exit 1 ;; \
    esac
COPY requirements/${VARIANT}.lock requirements.lock
RUN python -m venv /opt/sightline \
    && /opt/sightline/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: -r requirements.lock \
    # Never loaded by what is served (docs/gpu.md shows it): cuFFT, which only DFT nodes ask for (of CUDA 13: the provider
    # for CUDA 12 links it), and its wrapper for FFTW; NVBLAS; CUDA 12's second NVRTC, which no library names; headers; the
    # TensorRT provider, whose TensorRT is not here; onnxruntime's tools for converting and quantising.
    && /opt/sightline/bin/pip uninstall --yes --disable-pip-version-check nvidia-cufft pip setuptools \
    && cd /opt/sightline/lib/python3.11/site-packages \
    && rm -rf nvidia/*/include nvidia/*/lib/libnvblas.so* nvidia/*/lib/libcufftw.so* nvidia/*/lib/libnvrtc*.alt.so* \
        onnxruntime/capi/libonnxruntime_providers_tensorrt.so \
        onnxruntime/tools onnxruntime/transformers onnxruntime/quantization onnxruntime/datasets \
    # Nothing that the provider links was among it: all is found but the driver, which the host brings.
    && if [ -e onnxruntime/capi/libonnxruntime_providers_cuda.so ]; then \
        ! LD_LIBRARY_PATH=$(printf '%s:' nvidia/*/lib) ldd onnxruntime/capi/libonnxruntime_providers_cuda.so \
            | grep 'not found' | grep -v 'libcuda\.so\.1' >&2; \
    fi
WORKDIR /app
COPY service service
COPY models models
COPY LICENSE LICENSE
# In a clone that was made under a strict umask nobody but its owner can read them, and that is not who serves.
RUN chmod -R a+rX .

FROM python:3.11-slim-bookworm
ENV PATH=/opt/sightline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    # numpy's OpenBLAS would start a thread for each core but one at import, which counts against pids_limit, and share them
    # out over the small products of one picture, while every core already has a thread that decodes pictures.
    OPENBLAS_NUM_THREADS=1 \
    SIGHTLINE_HOST=0.0.0.0
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin sightline
WORKDIR /app
COPY --from=build /opt/sightline /opt/sightline
COPY --from=build /app /app
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# The start period is for the slowest start there may be: SIGHTLINE_CUDA_CONV_SEARCH=exhaustive makes hundreds of searches
# (docs/gpu.md says how many), which ten minutes allow a second each. A long one costs nothing: the first success ends it,
# and a start that fails or hangs ends the process by itself. A short one would make compose give up the edge, which waits
# for a healthy replica. Not urllib, which would ask a proxy that Docker is configured to hand to containers.
HEALTHCHECK --interval=10s --timeout=3s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('SIGHTLINE_PORT') or 8000), timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
# Last, so that another revision or moment costs no layer. docs/security.md shows how they are given.
ARG VARIANT=gpu
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="sightline" \
    org.opencontainers.image.description="REST inference: digits to /classify, street scenes to /segment" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}-${VARIANT}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"
