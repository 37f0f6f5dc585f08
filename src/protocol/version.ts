/** Owns the one number that says whether two parts of Skein can speak to each other. */

/** Raised whenever a control message, a frame or the routing rule changes its meaning. */
export const PROTOCOL_VERSION = 12
