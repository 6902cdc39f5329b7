import pika

connection = pika.BlockingConnection(pika.ConnectionParameters("localhost"))
channel = connection.channel()
channel.exchange_declare("shop", "topic", durable=True)
channel.queue_declare("shipping-dead", durable=True)
channel.queue_declare("shipping", durable=True, arguments={
    "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "shipping-dead"})
channel.queue_bind("shipping", "shop", "order.*")

channel.confirm_delivery()
for text in ("order 1", "broken order"):
    channel.basic_publish("shop", "order.paid", text, pika.BasicProperties(
        delivery_mode=2, message_id=text, headers={"table": 7}))

channel.basic_qos(prefetch_count=10)
for method, properties, body in channel.consume("shipping", inactivity_timeout=2):
    if method is None:
        break
    if body.startswith(b"broken"):
        channel.basic_nack(method.delivery_tag, requeue=False)
        continue
    print("shipped", body.decode())
    channel.basic_ack(method.delivery_tag)
channel.cancel()

method, properties, body = channel.basic_get("shipping-dead")
print("in the dead-letter queue:", body.decode())
channel.basic_ack(method.delivery_tag)
connection.close()
