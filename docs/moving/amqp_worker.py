from proton import Message
from proton.utils import BlockingConnection

connection = BlockingConnection("localhost:5672", allowed_mechs="PLAIN", user="RootManageSharedAccessKey",
                                password="SAS_KEY_VALUE", allow_insecure_mechs=True)
sender = connection.create_sender("shop")
sender.send(Message("order 1", subject="order.paid", id="1", durable=True, properties={"table": 7}))

receiver = connection.create_receiver("shop/Subscriptions/shipping", credit=10)
message = receiver.receive(timeout=5)
print("shipped", message.body)
receiver.accept()
connection.close()
