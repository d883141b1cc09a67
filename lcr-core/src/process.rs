//! What is the process's own affair: what is mapped into it, and the threads and
//! thread-locals that it keeps for libraries.

pub(crate) mod maps;
pub(crate) mod threads;
