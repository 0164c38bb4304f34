//! janus-hub
