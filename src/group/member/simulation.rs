//! n members and one coordinator on virtual time.
