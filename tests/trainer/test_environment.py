"""The worker's environment holds what it needs to compute, and nothing that opens doors."""

from __future__ import annotations

import pytest

from athanor.trainer.environment import worker_environment


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUBTOKEN", "WANDB_API_KEY", "OPENAI_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD",
        "MYSQL_PWD", "DB_PASS", "GITHUB_PAT", "SENTRY_DSN", "SSH_AUTH_SOCK", "NPM_CONFIG__AUTH", "GOOGLE_APPLICATION_CREDENTIALS", "Session_Cookie",
        "AZURE_STORAGE_CONNECTION_STRING", "apikey", "PRIVATE_KEY",
    ],
)  # fmt: skip
def test_secrets_stay_with_the_server(name):
    assert worker_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def test_addresses_with_passwords_stay_too_whatever_they_are_called():
    given = {"DATABASE_URL": "postgres://me:hunter2@db/x", "REDIS": "redis://:hunter2@cache", "HTTPS_PROXY": "http://me:hunter2@proxy:3128"}
    assert set(worker_environment({**given, "HTTP_PROXY": "http://proxy:3128"})) == {"HTTP_PROXY", "PYTHONUTF8", "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "PWD", "HOME", "SYSTEMROOT", "TEMP", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "TOKENIZERS_PARALLELISM",
        "HF_HOME", "HF_HUB_OFFLINE", "ATHANOR_PYTHON", "MASTER_ADDR", "OMP_NUM_THREADS", "XPU_KEYBOARD", "COMPASS", "PATHEXT", "AUTHOR",
    ],
)  # fmt: skip
def test_what_computing_needs_is_handed_on(name):
    assert worker_environment({name: "x"})[name] == "x"
