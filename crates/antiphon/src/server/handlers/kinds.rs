//! What a handler handles: extractors say by these for whom they are.

/// Marks a handler of events.
#[derive(Debug, Clone, Copy)]
pub enum OnEvent {}

/// Marks a handler of new sockets, or a middleware that lets them in.
#[derive(Debug, Clone, Copy)]
pub enum OnConnect {}

/// Marks a handler of sockets that leave.
#[derive(Debug, Clone, Copy)]
pub enum OnDisconnect {}
