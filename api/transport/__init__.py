"""What is below ASGI: connections, heads, bodies, deadlines, the lane. Only here and in server.py is uvicorn imported."""
