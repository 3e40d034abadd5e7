"""What can be typed behind `hf-rnn-s2s`: commands and their options.

It is a package of its own because importing anything inside `hf_rnn_s2s` also imports torch and transformers, which
takes seconds, and whoever asks for help should not wait for them. Each command imports what does the work when it is
called: `hf_rnn_s2s.commands`.
"""
