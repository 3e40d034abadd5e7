"""What the commands of `hf-rnn-s2s` do. What can be typed is told in `hf_rnn_s2s_command`."""
