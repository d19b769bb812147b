"""What Pillarbox is measured against, each as its readers would write it."""
