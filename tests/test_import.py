"""What `import hf_rnn_s2s` brings with it: nothing beyond the parts of transformers that it registers with."""

import json
import subprocess
import sys

COUNT = """
import json, sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
before = set(sys.modules)
import hf_rnn_s2s
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_nothing_else_is_imported() -> None:
    """The extras stay where they are until somebody trains, plots or quantizes."""
    outcome = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    added = json.loads(outcome.stdout)
    others = [name for name in added if name.partition(".")[0] != "hf_rnn_s2s"]
    assert "hf_rnn_s2s.model.modeling_rnn_s2s" in added
    assert not [name for name in others if name.partition(".")[0] != "transformers"], others
    assert len(others) < 10, others
