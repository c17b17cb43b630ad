//! Taking a refused batch apart.
