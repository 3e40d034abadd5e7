"""`python -m hf_rnn_s2s` does what the command `hf-rnn-s2s` does."""

from hf_rnn_s2s_command.main import main

if __name__ == "__main__":
    main()
