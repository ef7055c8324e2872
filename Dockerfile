# A container for `cicm serve`. Build: docker build -t cicm .   Run: docker run --rm -p 127.0.0.1:8080:8080 -e CICM_TOKEN=CHOOSE-ONE cicm
FROM python:3.11-slim

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
# The CPU build of torch: the plain one brings several GB of CUDA packages.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt "torch==2.13.0+cpu" \
    && pip install --no-cache-dir -c constraints.txt ".[serve,album,heic]" \
    && useradd --create-home cicm

USER cicm
EXPOSE 8080
CMD ["cicm", "serve", "--host", "0.0.0.0", "--port", "8080"]
