//! What is handed to a producer.
