"""What redis-py's manager for keyspace notifications in a cluster hears: redis_py.py PORT PREFIX.

Prints READY, and `microseconds key` for each `expired`.
"""

import sys
import time

from redis.cluster import RedisCluster
from redis.keyspace_notifications import ClusterKeyspaceNotifications, KeyspaceChannel

port, prefix = int(sys.argv[1]), sys.argv[2]
notifications = ClusterKeyspaceNotifications(RedisCluster(host="127.0.0.1", port=port))
notifications.subscribe(KeyspaceChannel(prefix + "*"))
print("READY", flush=True)
for notification in notifications.listen():
    if notification is not None and notification.event_type == "expired":
        print(time.time_ns() // 1000, notification.key, flush=True)
