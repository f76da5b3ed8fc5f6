"""The job door: hear the bell, let the box office settle what is pending."""
