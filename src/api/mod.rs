//! The resource: `RedisExpiryListener` of group `redisexpiry.io`, version `v1alpha1`. No behaviour.
