//! Every setting of writing: meaning, default, and what goes wrong when it is wrong.
